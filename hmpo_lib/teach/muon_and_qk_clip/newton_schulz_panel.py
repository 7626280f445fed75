"""The panel for Newton-Schulz: a polynomial, applied again and again, and a matrix's singular values under it."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, PURPLE, Canvas, label_ticks, tidy_axes

Coefficients = tuple[float, float, float]

MOST_STEPS = 10

# (a, b, c) of each step; a list that ends goes on with its last. Jordan: https://kellerjordan.github.io/posts/muon/.
# Polar Express: arXiv 2505.16932, for singular values from 0.001 on, without its safety factor, rounded to 5 decimals.
# Classical: a x + b x³ whose slope at 1 is 0, so that it converges, twice as many correct digits a step, near 1.
SCHEDULES: dict[str, tuple[Coefficients, ...]] = {
    "Jordan": ((3.4445, -4.7750, 2.0315),),
    "Polar Express": (
        (8.28721, -23.59589, 17.30039),
        (4.10706, -2.94785, 0.54484),
        (3.94869, -2.90890, 0.55182),
        (3.31842, -2.48849, 0.51005),
        (2.30065, -1.66890, 0.41881),
        (1.89130, -1.26800, 0.37680),
        (1.875, -1.25, 0.375),
    ),
    "classical": ((1.5, -0.5, 0.0),),
}


def coefficients(schedule: str, steps: int) -> list[Coefficients]:
    """The (a, b, c) of each of so many steps.

    >>> coefficients("classical", 2)
    [(1.5, -0.5, 0.0), (1.5, -0.5, 0.0)]
    """
    chosen = SCHEDULES[schedule]
    return [chosen[min(step, len(chosen) - 1)] for step in range(steps)]


def polynomial(values: Tensor, schedule: str, steps: int) -> Tensor:
    """f(s) = a s + b s³ + c s⁵ of each number, step after step.

    >>> polynomial(torch.tensor([0.5, 1.0]), "classical", 1)
    tensor([0.6875, 1.0000])
    """
    for a, b, c in coefficients(schedule, steps):
        values = a * values + b * values**3 + c * values**5
    return values


@dataclass(frozen=True)
class SchulzView:
    """One setting: singular values of the matrix over its norm, from the largest on, and what has become of them."""

    matrix: str
    schedule: str
    steps: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    curve: tuple[float, ...]

    @property
    def cosine(self) -> float:
        """Of the angle between the result and U Vᵀ: both have the same U and V, so the singular values tell it."""
        after = torch.tensor(self.after)
        return (after.sum() / (after.norm() * len(after) ** 0.5)).item()


ALT = (
    "Left: the polynomial after the steps over the singular value before them, on a logarithmic axis, with the "
    "matrix's values as dots. Right: the values in order, before and after."
)
CURVE = torch.logspace(-4.5, 0, 400, dtype=torch.float64)


def view_schulz(matrices: Mapping[str, Tensor], matrix: str, schedule: str, steps: int) -> SchulzView:
    """The singular values before and after so many steps."""
    before = torch.linalg.svdvals(matrices[matrix].double())
    before = before / before.norm()  # of all of them: the Frobenius norm, by which Muon divides
    after, curve = (polynomial(x, schedule, steps) for x in (before, CURVE))
    return SchulzView(matrix, schedule, steps, tuple(before.tolist()), tuple(after.tolist()), tuple(curve.tolist()))


def schulz_caption(view: SchulzView) -> str:
    """From where to where, and how near to U Vᵀ."""
    name = {"Jordan": "Jordan's coefficients"}.get(view.schedule, f"the {view.schedule} coefficients")
    return (
        f"{view.steps} {'step' if view.steps == 1 else 'steps'} with {name}, {view.matrix}: the {len(view.before)} "
        f"singular values lay between {min(view.before):.3g} and {max(view.before):.3g} and lie between "
        f"{min(view.after):.3g} and {max(view.after):.3g}; cosine with U Vᵀ {view.cosine:.3f}."
    )


def newton_schulz_explorer(matrices: Mapping[str, Tensor]) -> Panel[SchulzView]:
    """Sliders for steps and coefficients and a choice of matrix; the singular values follow.

    Args:
        matrices: by name, all with the same number of singular values.
    """
    count = {min(matrix.shape) for matrix in matrices.values()}
    if len(count) != 1:
        raise ValueError(f"the matrices have {sorted(count)} singular values: expected one number for all.")
    number = count.pop()
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["curve", "order"]])
    left, right = axes["curve"], axes["order"]
    title = "What the steps make of a singular value"
    tidy_axes(left, title=title, xlabel="singular value before", ylabel="after", ylim=(0, 2.1))
    left.set(xscale="log", xlim=(10**-4.5, 1.15))
    label_ticks(left, [1e-4, 1e-3, 1e-2, 0.1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"], axis="x")
    tidy_axes(
        right,
        title="All values of the matrix",
        xlabel="from the largest to the smallest",
        xlim=(0, number + 1),
        ylim=(0, 2.1),
    )
    for plot in (left, right):
        plot.axhline(1, color=BLACK, linewidth=0.8)
        label_ticks(plot, [0, 0.5, 1, 1.5, 2])
    curve = canvas.animate(left.plot([], [], color=GREY, linewidth=1.5)[0])
    dots = canvas.animate(left.plot([], [], "o", color=PURPLE, markersize=4, alpha=0.6)[0])
    old = canvas.animate(right.plot([], [], "s", color=GREY, markersize=2.5, label="before")[0])
    new = canvas.animate(right.plot([], [], "o", color=PURPLE, markersize=3.5, label="after")[0])
    right.legend(loc="upper right", ncols=2, fontsize=9, frameon=False, borderaxespad=0.1)

    def draw(view: SchulzView) -> None:
        curve.set_data(CURVE, view.curve)
        dots.set_data(view.before, view.after)
        old.set_data(range(1, number + 1), view.before)
        new.set_data(range(1, number + 1), view.after)

    controls: dict[str, Any] = {
        "steps": slider(widgets.IntSlider, "steps", value=10, min=0, max=MOST_STEPS),
        "schedule": widgets.ToggleButtons(options=list(SCHEDULES)),
        "matrix": widgets.ToggleButtons(options=list(matrices), style={"button_width": "14em"}),
    }
    compute = functools.partial(view_schulz, matrices)
    return Panel(controls, compute, canvas, draw=draw, caption=schulz_caption, alt=ALT)
