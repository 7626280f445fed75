"""The panel that looks at recorded importance ratios: tokens and four ratios of their completions, by staleness."""

import math
from dataclasses import dataclass

import ipywidgets as widgets

from hmpo_lib.ratios import sequence_log_ratios
from hmpo_lib.teach.importance_ratios.four_ratios_panel import RATIO_STYLES
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import GREY, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.log_histograms import bin_edges, bin_shares
from hmpo_lib.teach.shared.recorded_ratios import STAGES, RecordedRatios

LENGTHS = {"all lengths": (1, 40), "1 to 4": (1, 4), "17 to 24": (17, 24), "25 to 32": (25, 32), "33 to 40": (33, 40)}

LIMIT = math.log(2)  # log-ratios beyond these are counted in the outermost bins
BINS = 61  # an odd number puts a bin's middle at ratio 1
SMALLEST_SHARE = 5e-4  # the lower end of the histograms' logarithmic axes


@dataclass(frozen=True)
class RecordedView:
    """What one setting shows: of the tokens and of four ratios of the completions, histograms and widths.

    Attributes:
        shares: by name, the share in each bin.
        widths: by name, the standard deviation of the logarithm.
    """

    stage: str
    staleness: int
    length: str
    completions: int
    shares: dict[str, tuple[float, ...]]
    widths: dict[str, float]


def view_recorded(recorded: RecordedRatios, stage: str, staleness: int, length: str) -> RecordedView:
    """Histograms and widths of the logarithms of token ratios and of each completion's four ratios."""
    sample = recorded.at(stage, staleness).of_length(*LENGTHS[length])
    ratios = sequence_log_ratios(sample.log_ratios, sample.completion_mask)
    logs = {"token": sample.tokens, **ratios._asdict()}
    return RecordedView(
        stage,
        staleness,
        length,
        len(sample.lengths),
        {name: bin_shares(values, limit=LIMIT, bins=BINS) for name, values in logs.items()},
        {name: float(values.std()) for name, values in logs.items()},
    )


def recorded_caption(view: RecordedView) -> str:
    """How wide product and geometric ratio spread."""
    return (
        f"{view.stage}, {view.staleness} {'step' if view.staleness == 1 else 'steps'} old, {view.completions} "
        f"completions ({view.length}): spread of the logarithm {view.widths['product']:.3f} for the product, "
        f"{view.widths['geometric']:.4f} for the geometric mean."
    )


def recorded_alt(view: RecordedView) -> str:
    """The five histograms in words."""
    rows = ", ".join(
        f"{name}: {100 * view.shares[name][BINS // 2]:.0f} % in the bin at 1, spread {width:.4f}"
        for name, width in view.widths.items()
    )
    return f"Five histograms of ratios on one axis, {view.completions} completions. {rows}."


def recorded_explorer(recorded: RecordedRatios, *, stage: str = STAGES[1], staleness: int = 4) -> Panel[RecordedView]:
    """Histograms of recorded token ratios and of four ratios of their completions, by staleness and length."""
    canvas = Canvas(760, 520)
    edges = bin_edges(LIMIT, BINS)
    stairs, notes = {}, {}
    for row, name in enumerate(RATIO_STYLES):
        axes = canvas.figure.add_axes((0.09, 0.82 - 0.176 * row, 0.66, 0.125))
        is_last = row == len(RATIO_STYLES) - 1
        title = "single tokens" if name == "token" else f"completions: {name}"
        tidy_axes(axes, title=title, xlabel="ratio new / old" if is_last else "", xlim=(edges[0], edges[-1]))
        axes.set(xscale="log", yscale="log", ylim=(SMALLEST_SHARE, 1.6))
        ticks = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2]
        label_ticks(axes, ticks, None if is_last else [""] * len(ticks), axis="x")
        label_ticks(axes, [0.001, 0.03, 1], ["0.1 %", "3 %", "100 %"])
        style = RATIO_STYLES[name]
        stairs[name] = canvas.animate(
            axes.stairs([SMALLEST_SHARE] * BINS, edges, baseline=SMALLEST_SHARE, fill=True, color=style.colour)
        )
        notes[name] = canvas.animate(axes.text(1.03, 0.5, "", transform=axes.transAxes, fontsize=9.5, va="center"))
    canvas.figure.text(0.98, 0.965, "at the ends: 2 and more, 1/2 and less", ha="right", fontsize=9, color=GREY)

    def draw(view: RecordedView) -> None:
        for name, shares in view.shares.items():
            stairs[name].set_data([max(share, SMALLEST_SHARE) for share in shares])
            notes[name].set_text(
                f"spread of the log: {view.widths[name]:.4f}\nnearest 1: {100 * shares[BINS // 2]:.0f} %"
            )

    age = slider(
        widgets.SelectionSlider,
        "optimizer steps since sampling",
        options=[(f"{k:>2}", k) for k in recorded.staleness.tolist()],
        value=staleness,
    )
    length = slider(widgets.SelectionSlider, "tokens", options=[(name.center(11), name) for name in LENGTHS])
    sampled = widgets.ToggleButtons(options=list(STAGES), value=stage)
    return Panel(
        {"staleness": age, "length": length, "stage": sampled},
        lambda staleness, length, stage: view_recorded(recorded, stage, staleness, length),
        canvas,
        draw=draw,
        caption=recorded_caption,
        alt=recorded_alt,
    )
