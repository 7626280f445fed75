"""The panel of the KL estimators: k1, k2, k3 over the log-ratio, and the gradient that each has on average."""

from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import torch

from hmpo_lib.kl import kl_penalty
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, SKY_BLUE, Canvas, label_ticks, tidy_axes

# Hues of their own: blue, green and vermillion are the exponents'.
COLOURS = {"KL": BLACK, "k1": SKY_BLUE, "k2": ORANGE, "k3": PURPLE}
EDGE = 2.6  # of the log-ratios shown


@dataclass(frozen=True)
class KLView:
    """How far new has moved; each outcome's log-ratio; by name the average value and its gradient.

    Attributes:
        distance: 0 where new is ref, 1 where it is the policy given.
        log_ratios: x = ln new − ln ref of each outcome.
        values: "KL" and each estimator to its average over new.
        gradients: the same names to the gradient of that average with respect to the logits, outcomes held fixed.
    """

    distance: float
    log_ratios: tuple[float, ...]
    values: dict[str, float]
    gradients: dict[str, tuple[float, ...]]


def view_kl(logits: Sequence[float], ref_logits: Sequence[float], distance: float) -> KLView:
    """Averages over all outcomes, on-policy: outcomes are drawn by new, and drawing has no gradient.

    >>> view = view_kl([0.3, -0.5], [0.1, 0.4], 1.0)
    >>> max(abs(g) for g in view.gradients["k1"]) < 1e-12
    True
    """
    given, ref = (torch.tensor(list(values), dtype=torch.float64).log_softmax(0) for values in (logits, ref_logits))
    leaf = (ref + distance * (given - ref)).requires_grad_()
    new = leaf.log_softmax(0)
    x = new - ref
    averages = {"KL": (new.exp() * x).sum()}
    one = torch.ones(1, 1, dtype=torch.float64)
    for name in ("k1", "k2", "k3"):
        each = [kl_penalty(a.view(1, 1), b.view(1, 1), one, estimator=name) for a, b in zip(new, ref, strict=True)]
        averages[name] = (new.exp().detach() * torch.stack(each).flatten()).sum()
    gradients = {
        name: tuple(torch.autograd.grad(average, leaf, retain_graph=True)[0].tolist())
        for name, average in averages.items()
    }
    values = {name: average.item() for name, average in averages.items()}
    return KLView(distance, tuple(x.tolist()), values, gradients)


def kl_caption(view: KLView) -> str:
    """The averages, and whose gradient is that of the divergence."""
    values = ", ".join(f"{name} {value:.3f}" for name, value in view.values.items() if name != "KL")
    largest = {
        name: max(abs(g - w) for g, w in zip(gradient, view.gradients["KL"], strict=True))
        for name, gradient in view.gradients.items()
        if name != "KL"
    }
    off = ", ".join(f"{name} {gap:.3f}" for name, gap in largest.items())
    return f"KL(new ‖ ref) is {view.values['KL']:.3f}; on average {values}. A gradient is off by at most: {off}."


def kl_explorer(logits: Sequence[float], ref_logits: Sequence[float]) -> Panel[KLView]:
    """The three estimators over the log-ratio, and their average gradients beside that of KL(new ‖ ref)."""
    n = len(logits)
    canvas = Canvas(760, 340)
    axes = canvas.mosaic([["values", "gradients"]], width_ratios=(1, 1.35))
    left, right = axes["values"], axes["gradients"]
    tidy_axes(left, title="Three estimators", xlabel="x = ln new − ln ref", xlim=(-EDGE, EDGE), ylim=(-2.4, 4.4))
    left.axhline(0, color=GREY, linewidth=1)
    grid = torch.linspace(-EDGE, EDGE, 201, dtype=torch.float64)
    curves = {"k1": grid, "k2": grid**2 / 2, "k3": (-grid).exp() - 1 + grid}
    names = {"k1": (-2.3, -1.75), "k2": (1.75, 2.5), "k3": (-2.35, 3.6)}
    dots = {}
    for name, curve in curves.items():
        left.plot(grid, curve, color=COLOURS[name], linewidth=2)
        left.text(*names[name], f"$k_{name[1]}$", color=COLOURS[name], fontsize=13, fontweight="bold")
        dots[name] = canvas.animate(left.plot([], [], "o", color=COLOURS[name], markeredgecolor=BLACK, markersize=6)[0])
    tidy_axes(
        right, title="The average gradient on each logit", xlabel="outcome", xlim=(-0.6, n - 0.4), ylim=(-0.4, 0.8)
    )
    right.grid(visible=False, axis="x")
    right.axhline(0, color=GREY, linewidth=1)
    label_ticks(right, range(n), [f"{k + 1}" for k in range(n)], axis="x")
    bars = {}
    for k, (name, colour) in enumerate(COLOURS.items()):
        places = [outcome + 0.2 * (k - 1.5) for outcome in range(n)]
        label = "KL(new ‖ ref)" if name == "KL" else f"$k_{name[1]}$"
        hatch = "///" if name == "KL" else ""
        face = "white" if name == "KL" else colour
        bars[name] = right.bar(
            places, [0.0] * n, width=0.18, facecolor=face, edgecolor=colour, hatch=hatch, label=label
        )
        for bar in bars[name]:
            canvas.animate(bar)
    right.legend(loc="upper right", fontsize=9, frameon=False, ncols=2)

    def draw(view: KLView) -> None:
        x = torch.tensor(view.log_ratios, dtype=torch.float64)
        for name, heights in {"k1": x, "k2": x**2 / 2, "k3": (-x).exp() - 1 + x}.items():
            dots[name].set_data(x.tolist(), heights.tolist())
        for name, gradient in view.gradients.items():
            for bar, height in zip(bars[name], gradient, strict=True):
                bar.set_height(height)

    return Panel(
        {"distance": slider(widgets.FloatSlider, "how far new is from ref", value=1.0, min=0.0, max=1.4, step=0.1)},
        lambda distance: view_kl(logits, ref_logits, distance),
        canvas,
        draw=draw,
        caption=kl_caption,
        alt="A straight line, a parabola and a curve that is steep on the left: k1, k2 and k3 over the log-ratio, with "
        "a dot for each outcome. Beside them bars of each one's average gradient, next to that of KL(new ‖ ref).",
    )
