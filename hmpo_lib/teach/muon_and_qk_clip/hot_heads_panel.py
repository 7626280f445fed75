"""Notebook 07's main figure: heads whose logits grow, the loss, and what QK-Clip changes; recorded, and live."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_drawings import draw_entropies, draw_finals, draw_losses, draw_max_logits
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import STEPS_PER_RECORD, HotRecord, threshold_label, train_hot
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import RATES, RECORDS, SEEDS, THRESHOLDS, HotTraces
from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import Canvas


@dataclass(frozen=True)
class HotView:
    """One run, and the recorded ones beside it.

    Attributes:
        max_logits, entropies: ``[records so far, heads]``.
        losses, clipped: ``[records so far]``.
        free_losses: of the recorded run with the same rate and seed and no clip.
        finals: for each of THRESHOLDS mean and interval of the recorded losses at the end, with this rate.
    """

    rate: float
    threshold: float
    seed: int
    max_logits: Tensor
    entropies: Tensor
    losses: Tensor
    clipped: Tensor
    free_losses: Tensor
    finals: tuple[tuple[float, float, float], ...]


def view_hot(traces: HotTraces, rate: float, threshold: float, seed: int) -> HotView:
    """A recorded run."""
    r, t, s = RATES.index(rate), THRESHOLDS.index(threshold), SEEDS.index(seed)
    return HotView(
        rate,
        threshold,
        seed,
        traces.max_logits[r, t, s],
        traces.entropies[r, t, s],
        traces.losses[r, t, s],
        traces.clipped[r, t, s],
        traces.losses[r, -1, s],
        tuple(student_interval(values) for values in traces.final_losses[r]),
    )


def hot_caption(view: HotView) -> str:
    """The heads and the loss at the latest record, and the recorded losses of all seeds."""
    last = view.max_logits[-1]
    mean, low, high = view.finals[THRESHOLDS.index(view.threshold)]
    free = view.finals[-1][0]
    return (
        f"Muon at {view.rate:g}, {threshold_label(view.threshold)}, seed {view.seed}, "
        f"{STEPS_PER_RECORD * len(view.losses)} steps: largest logits from {last.min():,.0f} to {last.max():,.0f}, "
        f"mean entropy {view.entropies[-1].mean():.2f}, {view.clipped[-1]:.1f} of 8 heads clipped a step, loss "
        f"{view.losses[-1]:.2f}. Recorded at the end, 5 seeds: {mean:.2f} ({low:.2f} to {high:.2f}); without a clip "
        f"{free:.2f}."
    )


def hot_alt(view: HotView) -> str:
    """The four plots in words."""
    first, last = view.max_logits[0], view.max_logits[-1]
    finals = ", ".join(
        f"{threshold_label(t)} {mean:.2f}" for t, (mean, _, _) in zip(THRESHOLDS, view.finals, strict=True)
    )
    return (
        f"Four plots. The largest logit of each of 8 heads, from {first.max():.2g} at most to {last.max():,.0f} at "
        f"most; the entropy of each head, from {view.entropies[0].mean():.2f} to {view.entropies[-1].mean():.2f} on "
        f"average; the loss, from {view.losses[0]:.2f} to {view.losses[-1]:.2f}, beside that without a clip, which "
        f"ends at {view.free_losses[-1]:.2f}; the recorded loss at the end by threshold: {finals}."
    )


def _draw_all(canvas: Canvas) -> Any:
    """The four plots, and the function that shows a view on them."""
    add = canvas.figure.add_axes
    moves = [
        draw_max_logits(canvas, add((0.075, 0.575, 0.405, 0.36))),
        draw_entropies(canvas, add((0.615, 0.575, 0.365, 0.36))),
        draw_losses(canvas, add((0.075, 0.095, 0.405, 0.36))),
        draw_finals(canvas, add((0.615, 0.095, 0.365, 0.36)), len(SEEDS)),
    ]

    def draw(view: HotView) -> None:
        for move in moves:
            move(view)

    return draw


def hot_heads_explorer(traces: HotTraces, *, rate: float = 0.2, threshold: float = math.inf) -> Panel[HotView]:
    """A slider for the threshold, the learning rate and the seed; every recorded run."""
    canvas = Canvas(760, 540)
    stops = [(threshold_label(t).center(9, FIGURE_SPACE), t) for t in THRESHOLDS]
    controls = {
        "threshold": slider(widgets.SelectionSlider, "threshold", options=stops, value=threshold),
        "rate": widgets.ToggleButtons(options=[(f"learning rate {r:g}", r) for r in RATES], value=rate),
        "seed": slider(widgets.SelectionSlider, "seed", options=SEEDS, value=0),
    }
    compute = functools.partial(view_hot, traces)
    return Panel(controls, compute, canvas, draw=_draw_all(canvas), caption=hot_caption, alt=hot_alt)


def hot_heads_live(
    traces: HotTraces, *, rate: float, threshold: float, seed: int, records: int = RECORDS
) -> LiveRun[HotRecord]:
    """A `LiveRun` of one setting, beside the recorded ones. The arguments are the panel's values.

    The cell's last line is ``records = await hot_heads_live(traces, **panel.values).run()``.
    """
    canvas = Canvas(760, 540)
    move = _draw_all(canvas)
    recorded = view_hot(traces, rate, threshold, seed)

    def view(so_far: Sequence[HotRecord]) -> HotView:
        return HotView(
            rate,
            threshold,
            seed,
            torch.stack([record.max_logits for record in so_far]),
            torch.stack([record.entropies for record in so_far]),
            torch.tensor([record.loss for record in so_far]),
            torch.tensor([record.clipped for record in so_far]),
            recorded.free_losses,
            recorded.finals,
        )

    return LiveRun(
        lambda: train_hot(rate=rate, threshold=threshold, seed=seed, records=records),
        total=records,
        canvas=canvas,
        draw=lambda so_far: move(view(so_far)),
        caption=lambda so_far: hot_caption(view(so_far)),
        alt=lambda so_far: hot_alt(view(so_far)),
    )
