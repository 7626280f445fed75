"""The panel for the flip, exactly, on a small bandit: which tokens each sign of the advantage pushes, and whither."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.bandits import SequenceBandit, sequence_logprobs, sequence_probabilities
from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.bandits.worlds_experiment import log_ratio_variance, signed_gradients
from hmpo_lib.teach.panels import FIGURE_SPACE, P_LABEL_WIDTH, Panel, p_label, slider
from hmpo_lib.teach.plotting import BLACK, BLUE, GREY, VERMILLION, Canvas, label_ticks, round_numbers, tidy_axes
from hmpo_lib.teach.shared.exponents import quarters

STOPS = quarters(2)


@dataclass(frozen=True)
class FlipView:
    """What one setting shows.

    Attributes:
        p, p_bad: the exponents of the sequences with A > 0 and with A < 0.
        good, bad: by token, its ratio and how loudly it is heard where A > 0, where A < 0; 1 is what p = 0 gives
            to all while the ratios are near 1.
        good_rate, bad_rate: the relative change of the log-ratios' spread, for a small step of T times the expected
            push, divided by the step.
    """

    p: float
    p_bad: float
    good: tuple[tuple[float, float], ...]
    bad: tuple[tuple[float, float], ...]
    good_rate: float
    bad_rate: float

    @property
    def rate(self) -> float:
        """Both signs together."""
        return self.good_rate + self.bad_rate


def loudness(bandit: SequenceBandit, log_ratios: Tensor, weights: Tensor, p: float) -> tuple[tuple[float, float], ...]:
    """Of each token at each place its ratio and T · M_p · W_t, averaged with these weights of the sequences."""
    heard = bandit.length * log_power_mean(log_ratios, p).exp().unsqueeze(1) * power_mean_weights(log_ratios, p)
    tokens = []
    for place in range(bandit.length):
        for token in range(bandit.tokens):
            rows = (bandit.sequences[:, place] == token) & (weights > 0)
            if bool(rows.any()):
                mean = (weights[rows] * heard[rows, place]).sum() / weights[rows].sum()
                tokens.append((log_ratios[rows, place][0].exp().item(), mean.item()))
    return tuple(sorted(tokens))


def view_flip(bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, p: float, turned: bool) -> FlipView:
    """The pushes of both signs, by enumeration; `turned` gives the exponent −p to the sequences with A < 0."""
    old = sequence_probabilities(bandit, old_logits)
    advantages = bandit.rewards - (old * bandit.rewards).sum()
    log_ratios = sequence_logprobs(logits, bandit.sequences) - sequence_logprobs(old_logits, bandit.sequences)
    p_bad = -p if turned else p
    exponents = torch.where(advantages > 0, p, p_bad)
    leaf = logits.detach().requires_grad_()
    spread = log_ratio_variance(bandit, leaf, old_logits)
    (slope,) = torch.autograd.grad(spread, leaf)
    good_rate, bad_rate = (
        (bandit.length * (slope * part).sum() / spread).item()
        for part in signed_gradients(bandit, logits, old_logits, exponents)
    )
    return FlipView(
        p,
        p_bad,
        loudness(bandit, log_ratios, old * advantages.clamp(min=0), p),
        loudness(bandit, log_ratios, old * (-advantages).clamp(min=0), p_bad),
        good_rate,
        bad_rate,
    )


def hardest(tokens: tuple[tuple[float, float], ...]) -> str:
    """Which token is heard most, by its ratio; or that all are heard nearly alike."""
    ratio, most = max(tokens, key=lambda token: token[1])
    if most - min(heard for _, heard in tokens) < 0.05:
        return "all tokens nearly alike"
    return f"the token at {ratio:.2f} most"


def percent(rate: float) -> str:
    """A relative change with its sign."""
    return f"{100 * rate:+.0f} %".replace("-", "−")


def flip_caption(view: FlipView) -> str:
    """Whom each sign pushes hardest, and what that does to the spread."""
    exponents = p_label(view.p) if view.p == view.p_bad else f"p = {view.p:g} and {view.p_bad:g}".replace("-", "−")
    return (
        f"{exponents}: A > 0 pushes {hardest(view.good)} and changes the spread by {percent(view.good_rate)}; "
        f"A < 0 pushes {hardest(view.bad)} and changes it by {percent(view.bad_rate)}."
    )


def flip_alt(view: FlipView) -> str:
    """The two plots in words."""
    good, bad = (", ".join(f"{ratio:.2f}: {heard:.2f}" for ratio, heard in part) for part in (view.good, view.bad))
    return (
        f"Left, over each token's ratio, how hard it is pushed: upwards where A > 0 ({good}), downwards where A < 0 "
        f"({bad}). Right, bars of the change of the log-ratios' spread, as a rate at a small step: A > 0 "
        f"{percent(view.good_rate)}, A < 0 {percent(view.bad_rate)}, both {percent(view.rate)}."
    )


def exponent_slider(exponents: Sequence[float], p: float) -> Any:
    """A slider over these exponents, by name where they have one."""
    options = [(p_label(stop).center(P_LABEL_WIDTH, FIGURE_SPACE), stop) for stop in exponents]
    return slider(widgets.SelectionSlider, "exponent", options=options, value=p)


def flip_explorer(bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, *, p: float = -1.0) -> Panel[FlipView]:
    """For a chosen p: how hard each token is pushed for either sign of A, and whether the ratios spread."""
    corners = [view_flip(bandit, logits, old_logits, end, False) for end in (STOPS[0], 0.0, STOPS[-1])]
    tallest = 1.15 * max(heard for view in corners for _, heard in (*view.good, *view.bad))
    rates = [rate for view in corners for rate in (view.good_rate, view.bad_rate, view.rate)]
    mixed = [view_flip(bandit, logits, old_logits, end, True).rate for end in (STOPS[0], STOPS[-1])]
    reach = 1.7 * max(map(abs, (*rates, *mixed)))
    ratios = [ratio for ratio, _ in (*corners[0].good, *corners[0].bad)]
    margin = (max(ratios) / min(ratios)) ** 0.08

    canvas = Canvas(760, 330)
    left = canvas.figure.add_axes((0.075, 0.16, 0.5, 0.74))
    right = canvas.figure.add_axes((0.68, 0.16, 0.3, 0.74))
    limits = (min(ratios) / margin, max(ratios) * margin)
    tidy_axes(left, title="How hard each token is pushed", xlabel="the token's ratio", xlim=limits)
    left.set(xscale="log", ylim=(-tallest, tallest))
    label_ticks(left, round_numbers(*limits), axis="x")
    left.axhline(0, color=BLACK, linewidth=1)
    left.axvline(1, color=GREY, linewidth=1, linestyle=":")
    ticks = range(-math.floor(tallest), math.floor(tallest) + 1)
    label_ticks(left, list(ticks), [f"{abs(tick)}" for tick in ticks])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for y, text, colour in ((0.95, "A > 0: pushed up", BLUE), (0.02, "A < 0: pushed down", VERMILLION)):
        place = {"va": "top" if y > 0.5 else "bottom", "ha": "center", "fontsize": 9.5}
        left.text(0.5, y, text, color=colour, transform=left.transAxes, bbox=box, **place)
    lines = [
        canvas.animate(left.plot([], [], marker, color=colour, linewidth=1.5, markersize=7)[0])
        for marker, colour in (("o-", BLUE), ("s--", VERMILLION))
    ]
    tidy_axes(
        right,
        title="Change of the ratios' spread",
        xlabel="rate at a small step",
        xlim=(-reach, reach),
        ylim=(-0.6, 2.6),
    )
    label_ticks(right, [2, 1, 0], ["A > 0", "A < 0", "both"])
    right.grid(visible=False, axis="y")
    round_reach = round(reach / 2, 1)
    label_ticks(right, [-round_reach, 0, round_reach], [percent(-round_reach), "0", percent(round_reach)], axis="x")
    right.axvline(0, color=BLACK, linewidth=1)
    colours, hatches = (BLUE, VERMILLION, GREY), ("", "//", "..")
    bars = [
        canvas.animate(right.barh(y, 0, height=0.6, color="white", edgecolor=colour, hatch=hatch, linewidth=1.5)[0])
        for y, colour, hatch in zip((2, 1, 0), colours, hatches, strict=True)
    ]
    numbers = [canvas.animate(right.text(0, y, "", va="center", fontsize=9.5, bbox=box)) for y in (2, 1, 0)]

    def draw(view: FlipView) -> None:
        for line, part, sign in zip(lines, (view.good, view.bad), (1, -1), strict=True):
            line.set_data([ratio for ratio, _ in part], [sign * heard for _, heard in part])
        for bar, number, rate in zip(bars, numbers, (view.good_rate, view.bad_rate, view.rate), strict=True):
            bar.set_width(rate)
            number.set(
                text=percent(rate), x=rate + math.copysign(0.03 * reach, rate), ha="left" if rate >= 0 else "right"
            )

    turned = widgets.ToggleButtons(
        options=[("A < 0 has the same p", False), ("A < 0 has −p", True)], value=False, style={"button_width": "15em"}
    )
    return Panel(
        {"p": exponent_slider(STOPS, p), "turned": turned},
        lambda p, turned: view_flip(bandit, logits, old_logits, p, turned),
        canvas,
        draw=draw,
        caption=flip_caption,
        alt=flip_alt,
    )
