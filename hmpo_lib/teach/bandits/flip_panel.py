"""The panel for the flip, exactly, on a small bandit: which tokens each sign of the advantage pushes, and whither."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.bandits import SequenceBandit, sequence_logprobs, sequence_probabilities
from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.teach.bandits.worlds_experiment import log_ratio_spread, signed_gradients
from hmpo_lib.teach.panels import FIGURE_SPACE, P_LABEL_WIDTH, Panel, p_label, slider
from hmpo_lib.teach.plotting import BLACK, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.exponents import quarters
from hmpo_lib.teach.tokens import draw_tokens

STOPS = quarters(2)
LETTERS = "abcdefgh"
FULL_SHADE = 0.8  # the log-ratio at which a token's shade is full
HATCHES = {"A > 0": "", "A < 0": "//", "both": ".."}


@dataclass(frozen=True)
class Pushed:
    """One sequence: its tokens, their log-ratios, and the pushes in units of |A| / T, what all get at p = 0 near 1."""

    tokens: str
    log_ratios: tuple[float, ...]
    pushes: tuple[float, ...]

    @property
    def hardest(self) -> str:
        """Which token is pushed hardest; or that all are pushed alike."""
        sizes = [abs(push) for push in self.pushes]
        if max(sizes) - min(sizes) < 0.05:
            return "all tokens alike"
        place = sizes.index(max(sizes))
        return f"“{self.tokens[place]}” at place {place + 1}"


@dataclass(frozen=True)
class FlipView:
    """What one setting shows.

    Attributes:
        p, p_bad: the exponents of the sequences with A > 0 and with A < 0.
        good, bad: an example of each.
        changes: of the log-ratios' spread, relative, in one step of learning rate 1 along T times the expected
            gradient of the sequences with A > 0, with A < 0, and of both.
    """

    p: float
    p_bad: float
    good: Pushed
    bad: Pushed
    changes: dict[str, float]


def spread_changes(bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, p: float | Tensor) -> dict[str, float]:
    """See `FlipView`."""
    before = log_ratio_spread(bandit, logits, old_logits)
    good, bad = signed_gradients(bandit, logits, old_logits, p)
    return {
        name: (log_ratio_spread(bandit, logits + bandit.length * part, old_logits) / before - 1).item()
        for name, part in zip(HATCHES, (good, bad, good + bad), strict=True)
    }


def view_flip(
    bandit: SequenceBandit, logits: Tensor, old_logits: Tensor, examples: tuple[str, str], p: float, turned: bool
) -> FlipView:
    """The pushes on two examples, and what both signs do to the spread; `turned` gives −p to A < 0."""
    old = sequence_probabilities(bandit, old_logits)
    advantages = bandit.rewards - (old * bandit.rewards).sum()
    log_ratios = sequence_logprobs(logits, bandit.sequences) - sequence_logprobs(old_logits, bandit.sequences)
    p_bad = -p if turned else p

    def pushed(tokens: str, sign: int, exponent: float) -> Pushed:
        row = (bandit.sequences == torch.tensor([LETTERS.index(token) for token in tokens])).all(dim=1)
        if not bool((advantages[row] * sign > 0).all()) or int(row.sum()) != 1:
            raise ValueError(f"examples are {examples}: expected a sequence with A > 0 and then one with A < 0.")
        d = log_ratios[row][0]
        pushes = sign * bandit.length * log_power_mean(d, exponent).exp() * power_mean_weights(d, exponent)
        return Pushed(tokens, tuple(d.tolist()), tuple(pushes.tolist()))

    good, bad = pushed(examples[0], 1, p), pushed(examples[1], -1, p_bad)
    exponents = torch.where(advantages > 0, p, p_bad)
    return FlipView(p, p_bad, good, bad, spread_changes(bandit, logits, old_logits, exponents))


def percent(change: float) -> str:
    """A relative change with its sign."""
    return f"{100 * change:+.0f} %".replace("-", "−")


def flip_caption(view: FlipView) -> str:
    """Whom each sign pushes hardest, and what that does to the spread."""
    exponents = p_label(view.p) if view.p == view.p_bad else f"p = {view.p:g} and {view.p_bad:g}".replace("-", "−")
    changes = ", ".join(f"{name} {percent(change)}" for name, change in view.changes.items())
    return (
        f"{exponents}: in {view.good.tokens} the hardest push goes to {view.good.hardest}, in {view.bad.tokens} to "
        f"{view.bad.hardest}. One step of all 81 sequences' pushes changes the spread by: {changes}."
    )


def flip_alt(view: FlipView) -> str:
    """The plots in words."""
    rows = "; ".join(
        ", ".join(
            f"{token} with ratio {torch.tensor(d).exp():.2f} pushed {push:+.2f}"
            for token, d, push in zip(row.tokens, row.log_ratios, row.pushes, strict=True)
        )
        for row in (view.good, view.bad)
    )
    return f"A good and a bad sequence as shaded tokens with arrows: {rows}. Three bars. {flip_caption(view)}"


def exponent_slider(exponents: Sequence[float], p: float) -> Any:
    """A slider over these exponents, by name where they have one."""
    options = [(p_label(stop).center(P_LABEL_WIDTH, FIGURE_SPACE), stop) for stop in exponents]
    return slider(widgets.SelectionSlider, "exponent", options=options, value=p)


def flip_explorer(
    bandit: SequenceBandit,
    logits: Tensor,
    old_logits: Tensor,
    *,
    good: str = "abcb",
    bad: str = "acba",
    p: float = -1.0,
) -> Panel[FlipView]:
    """For a chosen p: the pushes on a good and on a bad sequence, and whether all pushes together spread the ratios."""

    def compute(p: float, turned: bool) -> FlipView:
        return view_flip(bandit, logits, old_logits, (good, bad), p, turned)

    corners = [compute(end, turned) for end in (STOPS[0], 0.0, STOPS[-1]) for turned in (False, True)]
    longest = max(abs(push) for view in corners for row in (view.good, view.bad) for push in row.pushes)
    reach = 1.6 * max(abs(change) for view in corners for change in view.changes.values())

    canvas = Canvas(760, 330)
    axes = canvas.mosaic([["good", "bars"], ["bad", "bars"]], width_ratios=[1.35, 1])
    strips = []
    for name, tokens, title in (
        ("good", good, "A good sequence, A > 0: pushed up"),
        ("bad", bad, "A bad sequence, A < 0: pushed down"),
    ):
        strips.append(draw_tokens(canvas, axes[name], tokens, limit=FULL_SHADE, arrow_limit=longest))
        axes[name].set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes["bad"].set_xlabel("purple: has fallen, orange: has risen; arrow: the push", fontsize=9.5)
    bars_axes: Any = axes["bars"]
    tidy_axes(
        bars_axes,
        title="One step changes the spread by",
        xlabel="(learning rate 1)",
        xlim=(-reach, reach),
        ylim=(-0.6, 2.6),
    )
    label_ticks(bars_axes, [2, 1, 0], list(HATCHES))
    tick = round(reach / 2, 1)
    label_ticks(bars_axes, [-tick, 0, tick], [percent(-tick), "0", percent(tick)], axis="x")
    bars_axes.grid(visible=False, axis="y")
    bars_axes.axvline(0, color=BLACK, linewidth=1)
    bars = [
        canvas.animate(bars_axes.barh(y, 0, height=0.6, color="white", edgecolor=BLACK, hatch=hatch, linewidth=1.3)[0])
        for y, hatch in zip((2, 1, 0), HATCHES.values(), strict=True)
    ]
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    numbers = [canvas.animate(bars_axes.text(0, y, "", va="center", fontsize=9.5, bbox=box)) for y in (2, 1, 0)]

    def draw(view: FlipView) -> None:
        for move, row in zip(strips, (view.good, view.bad), strict=True):
            move(row.log_ratios, row.pushes)
        for bar, number, change in zip(bars, numbers, view.changes.values(), strict=True):
            bar.set_width(change)
            side = 0.03 * reach if change >= 0 else -0.03 * reach
            number.set(text=percent(change), x=change + side, ha="left" if change >= 0 else "right")

    turned = widgets.ToggleButtons(
        options=[("A < 0 has the same p", False), ("A < 0 has −p", True)], value=False, style={"button_width": "15em"}
    )
    return Panel(
        {"p": exponent_slider(STOPS, p), "turned": turned},
        compute,
        canvas,
        draw=draw,
        caption=flip_caption,
        alt=flip_alt,
    )
