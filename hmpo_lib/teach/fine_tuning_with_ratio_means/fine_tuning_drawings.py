"""The six plots of a fine-tuning run: what it earns and writes, its ratios by token and by completion, its logits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.tasks import MAX_COMPLETION_LENGTH
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.plotting import (
    BLACK,
    GREY,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    Canvas,
    label_ticks,
    tidy_axes,
)
from hmpo_lib.teach.shared.log_histograms import bin_edges, bin_shares

WIDTH, HEIGHT = 760, 450
TOKEN_LIMIT = math.log(1.5)  # log-ratios beyond these are counted in the outermost bins
MEAN_LIMIT = math.log(1.15)  # completions' means lie nearer to 1; a wider clip range widens it
BINS = 61  # an odd number puts a bin's middle at ratio 1
SMALLEST_SHARE = 5e-4  # the lower end of the histograms' logarithmic axes
LARGEST_LOGIT = 30.0  # larger ones are drawn there; a larger threshold of QK-Clip is not drawn
LAYER_STYLES = ((PURPLE, "-"), (BLACK, "--"), (SKY_BLUE, ":"), (ORANGE, "-."))


@dataclass(frozen=True)
class LiveView:
    """What the plots show.

    Attributes:
        rewards, worked, tokens: a number a rollout.
        token_log_ratios: ``[tokens]``, of the latest step.
        log_means: ``[minibatch]``, log M_p of its completions.
        max_logits: attention module's name -> rollouts -> the largest logit of each head; empty if not watched.
    """

    rewards: tuple[float, ...]
    worked: tuple[float, ...]
    tokens: tuple[float, ...]
    token_log_ratios: Tensor
    log_means: Tensor
    max_logits: dict[str, tuple[tuple[float, ...], ...]]


def mean_limit(objective: Objective) -> float:
    """How far the axis of the completions' means reaches, as a log-ratio: a bound of a sequence clip is inside."""
    if objective.clip != "sequence" or objective.clip_range is None:
        return MEAN_LIMIT
    return max(MEAN_LIMIT, *(1.25 * abs(math.log(bound)) for bound in objective.clip_range))


def ratio_ticks(limit: float) -> list[float]:
    """Ratios to label on a histogram's axis that reaches ± this log-ratio, none on its neighbour.

    >>> ratio_ticks(0.15), ratio_ticks(0.4)
    ([0.9, 1, 1.1], [0.7, 0.8, 0.9, 1, 1.2, 1.4])
    """
    ticks = (0.8, 0.9, 1, 1.1, 1.2) if limit < 0.3 else (0.5, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 2)
    return [tick for tick in ticks if abs(math.log(tick)) < limit]


def draw_live(canvas: Canvas, config: FineTuneConfig, *, bottom: float = 0.0) -> Callable[[LiveView], None]:
    """Put the six plots on a canvas, above its share ``bottom``; returns what moves them."""
    axes = canvas.mosaic([["reward", "worked", "tokens"], ["token", "sequence", "logits"]])
    canvas.figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))
    objective = config.resolved_method().objective
    movers = [
        _draw_curves(canvas, [axes[name] for name in ("reward", "worked", "tokens")], config.rollouts),
        _draw_ratios(canvas, [axes[name] for name in ("token", "sequence")], objective),
        _draw_logits(canvas, axes["logits"], config),
    ]

    def draw(view: LiveView) -> None:
        for move in movers:
            move(view)

    return draw


def _rollouts_axis(rollouts: int) -> tuple[float, float]:
    return 1 - 0.02 * rollouts, max(2.0, 1.02 * rollouts)


def _draw_curves(canvas: Canvas, axes: list[Any], rollouts: int) -> Callable[[LiveView], None]:
    reward, worked, tokens = axes
    xlim = _rollouts_axis(rollouts)
    tidy_axes(reward, title="Right answers", xlabel="rollout", xlim=xlim, ylim=(0, 1.02))
    tidy_axes(worked, title="Answers with work", xlabel="rollout", xlim=xlim, ylim=(0, 1.02))
    tidy_axes(tokens, title="Tokens per answer", xlabel="rollout", xlim=xlim, ylim=(0, MAX_COMPLETION_LENGTH))
    for plot in axes:
        plot.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    for plot in (reward, worked):
        label_ticks(plot, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    curves = [
        canvas.animate(plot.plot([], [], color=colour, linewidth=2, marker=marker, markersize=3)[0])
        for plot, colour, marker in ((reward, BLACK, "o"), (worked, PURPLE, "s"), (tokens, GREY, "^"))
    ]

    def draw(view: LiveView) -> None:
        for curve, values in zip(curves, (view.rewards, view.worked, view.tokens), strict=True):
            curve.set_data(range(1, len(values) + 1), values)

    return draw


def draw_ratio_histograms(
    canvas: Canvas, axes: Sequence[Any], objective: Objective, *, xlabel: str = ""
) -> Callable[[Sequence[float], Sequence[float]], None]:
    """Put the histograms of the tokens' ratios and of the answers' means on two axes; returns what moves them.

    It takes the shares of their bins: `BINS` of them, up to ±TOKEN_LIMIT and up to ± `mean_limit`.
    """
    looks = (
        ("token", "Ratios of the tokens", TOKEN_LIMIT, SKY_BLUE),
        ("sequence", "Mean $M_p$ of each answer", mean_limit(objective), ORANGE),
    )
    stairs = []
    for plot, (place, title, limit, colour) in zip(axes, looks, strict=True):
        edges = bin_edges(limit, BINS)
        bounds = (objective.clip_range or ()) if objective.clip == place else ()
        label = "; ".join(filter(None, ["dotted: clip" if bounds else xlabel, "end bars: beyond"]))
        tidy_axes(plot, title=title, xlabel=label, xlim=(edges[0], edges[-1]))
        plot.set(xscale="log", yscale="log", ylim=(SMALLEST_SHARE, 1.6))
        label_ticks(plot, ratio_ticks(limit), axis="x")
        label_ticks(plot, [0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        for bound in bounds:
            plot.axvline(bound, color=GREY, linestyle=":", linewidth=1.5)
        empty = [SMALLEST_SHARE] * BINS
        stairs.append(canvas.animate(plot.stairs(empty, edges, baseline=SMALLEST_SHARE, fill=True, color=colour)))

    def draw(*both: Sequence[float]) -> None:
        for histogram, shares in zip(stairs, both, strict=True):
            histogram.set_data([max(share, SMALLEST_SHARE) for share in shares])

    return draw


def _draw_ratios(canvas: Canvas, axes: list[Any], objective: Objective) -> Callable[[LiveView], None]:
    move = draw_ratio_histograms(canvas, axes, objective, xlabel="ratio new / old")
    limits = (TOKEN_LIMIT, mean_limit(objective))

    def draw(view: LiveView) -> None:
        samples = (view.token_log_ratios, view.log_means)
        move(*(bin_shares(sample, limit=limit, bins=BINS) for sample, limit in zip(samples, limits, strict=True)))

    return draw


def _draw_logits(canvas: Canvas, axes: Any, config: FineTuneConfig) -> Callable[[LiveView], None]:
    title = "Largest logit per head"
    tidy_axes(axes, title=title, xlabel="rollout", xlim=_rollouts_axis(config.rollouts), ylim=(0, LARGEST_LOGIT))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    heads = canvas.animate(axes.add_collection(LineCollection([], linewidth=1.4), autolim=False))
    if config.optimizer != "muonclip" and not config.monitor_logits:
        axes.text(0.5, 0.5, "not watched", transform=axes.transAxes, ha="center", color=GREY, fontsize=9)
        return lambda view: None
    if config.optimizer == "muonclip" and config.qk_clip_threshold < LARGEST_LOGIT:
        axes.axhline(config.qk_clip_threshold, color=GREY, linestyle=":", linewidth=1.5)
    axes.text(
        0.99, 1.0, "layer 1 —, layer 2 - -", transform=axes.transAxes, ha="right", va="top", fontsize=8, color=GREY
    )

    def draw(view: LiveView) -> None:
        segments, colours, dashes = [], [], []
        for layer, rows in enumerate(view.max_logits.values()):
            colour, dash = LAYER_STYLES[layer % len(LAYER_STYLES)]
            for head in zip(*rows, strict=True):
                points = [(float(k), min(logit, LARGEST_LOGIT)) for k, logit in enumerate(head, start=1)]
                # A single point would be no line.
                segments.append(points if len(points) > 1 else [(0.8, points[0][1]), (1.2, points[0][1])])
                colours.append(colour)
                dashes.append(dash)
        heads.set(segments=segments, color=colours, linestyle=dashes)

    return draw
