"""A panel: one token's ratio explodes or collapses while the others stay at 1. What do A, G and H make of it?"""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch

from hmpo_lib.losses import policy_surrogates
from hmpo_lib.objectives import Clip, Objective
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.policy_losses.token_strip_panel import CLIPS, SIGNS
from hmpo_lib.teach.shared.power_mean_drawings import NAMED

TOKENS = 8
LARGEST = 20.0  # of the odd token's |log-ratio|
RANGE = (0.8, 1.2)  # GRPO's clip range, here for every mean, on whichever place
GRID = torch.linspace(-LARGEST, LARGEST, 161, dtype=torch.float64)


@dataclass(frozen=True)
class ExplodingView:
    """What one setting shows, by the mean's name.

    Attributes:
        curves: for each log-ratio of `GRID`, the logarithm of the surrogate's size, |A| = 1, and the odd token's share.
        values, shares: the same at the slider's log-ratio, the value as it is.
    """

    log_ratio: float
    advantage: float
    clip: Clip | None
    curves: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    values: dict[str, float]
    shares: dict[str, float]


def value_and_share(
    log_ratios: torch.Tensor, p: float, advantage: float, clip: Clip | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """|A · M_p| after the clip, and the odd token's share of the gradient, for each log-ratio of the odd token.

    The share is of the sum of the sizes of all tokens' pushes; 0 where the clip blocks them all.

    >>> value_and_share(torch.tensor([0.0]), 1.0, 1.0, None)
    (tensor([1.]), tensor([0.1250]))
    """
    logprobs = torch.zeros(len(log_ratios), TOKENS, dtype=log_ratios.dtype)
    logprobs[:, 0] = log_ratios
    logprobs.requires_grad_()
    advantages = torch.full_like(log_ratios, advantage)
    objective = Objective(p, clip, RANGE if clip else None)
    ones = torch.ones_like(logprobs)
    surrogates = policy_surrogates(logprobs, torch.zeros_like(logprobs), advantages, ones, objective)
    (pushes,) = torch.autograd.grad(surrogates.sum(), logprobs)
    total = pushes.abs().sum(dim=1)
    share = torch.where(total > 0, pushes[:, 0].abs() / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    return surrogates.detach().abs(), share


def view_exploding(log_ratio: float, advantage: float, clip: Clip | None) -> ExplodingView:
    """The curves, and where the slider stands on them."""
    curves, values, shares = {}, {}, {}
    points = torch.cat([GRID, torch.tensor([log_ratio], dtype=GRID.dtype)])
    for style in NAMED:
        value, share = value_and_share(points, style.p, advantage, clip)
        curves[style.name] = (tuple(value[:-1].log().tolist()), tuple(share[:-1].tolist()))
        values[style.name], shares[style.name] = value[-1].item(), share[-1].item()
    return ExplodingView(log_ratio, advantage, clip, curves, values, shares)


def exploding_setting(view: ExplodingView) -> str:
    """The controls in words."""
    clip = next(name for name, place in CLIPS if place == view.clip)
    ratio = f"e^{view.log_ratio:g}".replace("-", "−")
    return f"One token at {ratio}, A = {'+1' if view.advantage > 0 else '−1'}, {clip}"


def exploding_caption(view: ExplodingView) -> str:
    """The value of each mean, and in brackets the token's share of its gradient."""
    means = ", ".join(f"{name} {view.values[name]:.3g} ({100 * view.shares[name]:.0f} %)" for name in view.values)
    return f"{exploding_setting(view)}: {means}."


def exploding_alt(view: ExplodingView) -> str:
    """The two plots in words."""
    ends = "; ".join(
        f"{name} from e^{logs[0]:.1f} to e^{logs[-1]:.1f}, share from {shares[0]:.2f} to {shares[-1]:.2f}"
        for name, (logs, shares) in view.curves.items()
    ).replace("-", "−")
    return f"Two plots over one token's ratio, e^−20 to e^20: {ends}. {exploding_caption(view)} In brackets: its share."


def exploding_explorer(
    *, log_ratio: float = 10.0, advantage: float = 1.0, clip: Clip | None = None
) -> Panel[ExplodingView]:
    """Size of the surrogate and the odd token's share of the gradient, over its ratio, for the three means."""
    canvas = Canvas(760, 360)
    places = canvas.mosaic([["size", "share"]])
    left, right = places["size"], places["share"]
    powers = [-20, -10, 0, 10, 20]
    names = [f"$e^{{{power}}}$" if power else "1" for power in powers]
    edge = 1.04 * LARGEST
    for axes, title in ((left, "Size of A · mean, after the clip"), (right, "The token's share of the gradient")):
        tidy_axes(axes, title=title, xlabel="ratio of the one token", xlim=(-edge, edge))
        label_ticks(axes, powers, names, axis="x")
    left.set_ylim(-1.1 * LARGEST, 1.1 * LARGEST)
    label_ticks(left, powers, names)
    right.set_ylim(-0.04, 1.08)
    label_ticks(right, [0, 1 / TOKENS, 0.5, 1], ["0", f"1/{TOKENS}", "0.5", "1"])
    rules = [canvas.animate(axes.axvline(0, color=GREY, linewidth=1)) for axes in (left, right)]
    lines, marks = {}, {}
    for style in NAMED:
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.linestyle, "linewidth": 2}
        lines[style.name] = [canvas.animate(axes.plot([], [], **look)[0]) for axes in (left, right)]
        spot: dict[str, Any] = {"color": style.colour, "markeredgecolor": BLACK, "markersize": 8}
        marks[style.name] = [canvas.animate(axes.plot([], [], style.marker, **spot)[0]) for axes in (left, right)]
    handles = [
        left.plot([], [], color=style.colour, linestyle=style.linestyle, marker=style.marker, label=style.name)[0]
        for style in NAMED
    ]
    canvas.figure.legend(
        handles=handles, loc="outside upper center", ncols=3, fontsize=9.5, frameon=False, borderaxespad=0.1
    )

    def draw(view: ExplodingView) -> None:
        for rule in rules:
            rule.set_xdata([view.log_ratio, view.log_ratio])
        for name, curve in view.curves.items():
            for line, heights in zip(lines[name], curve, strict=True):
                line.set_data(GRID.tolist(), heights)
            spots = (math.log(view.values[name]), view.shares[name])
            for mark, height in zip(marks[name], spots, strict=True):
                mark.set_data([view.log_ratio], [height])

    span = {"min": -LARGEST, "max": LARGEST, "step": 0.5}
    return Panel(
        {
            "log_ratio": slider(widgets.FloatSlider, "log-ratio of the one token", value=log_ratio, **span),
            "advantage": widgets.ToggleButtons(options=SIGNS, value=advantage),
            "clip": widgets.ToggleButtons(options=CLIPS, value=clip),
        },
        view_exploding,
        canvas,
        draw=draw,
        caption=exploding_caption,
        alt=exploding_alt,
    )
