"""The panel of the length weights: work and length of the answers while runs with two weights learn."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch

from hmpo_lib.teach.fine_tuning_with_ratio_means.length_recording import PAYMENTS, ROLLOUTS, SEEDS, WEIGHTS, LengthRuns
from hmpo_lib.teach.panels import Panel
from hmpo_lib.teach.plotting import ORANGE, PURPLE, Canvas, label_ticks, tidy_axes

LONGEST = 32  # tokens; the mean of every run is below
STYLES = {"equal": (PURPLE, "-"), "proportional": (ORANGE, "--")}

Curve = tuple[tuple[float, ...], ...]  # mean, smallest and largest of the seeds, rollout by rollout


@dataclass(frozen=True)
class LengthView:
    """What one payment shows, by the length weight's name."""

    payment: str
    worked: dict[str, Curve]
    tokens: dict[str, Curve]


def view_lengths(runs: LengthRuns, payment: str) -> LengthView:
    """Means over the seeds, with the smallest and the largest."""
    place = PAYMENTS.index(payment)

    def curves(table: torch.Tensor) -> dict[str, Curve]:
        by_weight = zip(WEIGHTS, table[place], strict=True)
        return {
            weight: tuple(tuple(line.tolist()) for line in (seeds.mean(dim=0), seeds.amin(dim=0), seeds.amax(dim=0)))
            for weight, seeds in by_weight
        }

    return LengthView(payment, curves(runs.worked), curves(runs.tokens))


def length_caption(view: LengthView) -> str:
    """Where the runs end."""
    ends = []
    for weight in WEIGHTS:
        (worked, low, high), tokens = (curve[-1] for curve in view.worked[weight]), view.tokens[weight][0][-1]
        ends.append(
            f"{weight}: {100 * worked:.1f} % worked ({100 * low:.1f} to {100 * high:.1f} %), {tokens:.1f} tokens"
        )
    payment = view.payment[0].upper() + view.payment[1:]
    return f"{payment}; after {ROLLOUTS} rollouts, {len(SEEDS)} seeds: {'; '.join(ends)}."


def length_alt(view: LengthView) -> str:
    """The two plots in words."""
    starts = ", ".join(f"{100 * view.worked[weight][0][0]:.0f} % ({weight})" for weight in WEIGHTS)
    return (
        f"Share of worked answers and tokens per answer over the rollouts, means with the range of the seeds, for the "
        f"length weights {' and '.join(WEIGHTS)}. The share starts at {starts}. {length_caption(view)}"
    )


def length_weight_explorer(runs: LengthRuns) -> Panel[LengthView]:
    """Recorded runs under two length weights, for either payment."""
    canvas = Canvas(760, 280)
    places = range(1, ROLLOUTS + 1)
    moving = []
    both = canvas.mosaic([["worked", "tokens"]])
    looks = (("worked", "Answers with work", 1.02), ("tokens", "Tokens per answer", LONGEST))
    for name, title, top in looks:
        axes = both[name]
        tidy_axes(axes, title=title, xlabel="rollout", xlim=(0.5, ROLLOUTS + 0.5), ylim=(0, top))
        if top == 1.02:
            label_ticks(axes, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        for weight, (colour, dash) in STYLES.items():
            empty = [0.0] * ROLLOUTS
            band = canvas.animate(axes.fill_between(places, empty, empty, color=colour, alpha=0.18, linewidth=0))
            label = f"length weight {weight}"
            line = canvas.animate(axes.plot([], [], color=colour, linestyle=dash, linewidth=2, label=label)[0])
            moving.append((title, weight, band, line))
        if top != 1.02:
            axes.legend(loc="upper left", fontsize=9, handlelength=2.4, framealpha=1, edgecolor="none", borderpad=0.2)

    def draw(view: LengthView) -> None:
        for title, weight, band, line in moving:
            mean, low, high = (view.worked if title == "Answers with work" else view.tokens)[weight]
            band.set_data(places, low, high)
            line.set_data(places, mean)

    return Panel(
        # It opens where the two weights differ.
        {"payment": widgets.ToggleButtons(options=PAYMENTS, value=PAYMENTS[1], style={"button_width": "19em"})},
        lambda payment: view_lengths(runs, payment),
        canvas,
        draw=draw,
        caption=length_caption,
        alt=length_alt,
    )
