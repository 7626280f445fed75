"""Notebook 07's main figures: heads whose logits grow, by optimizer and rate, and what QK-Clip changes; and live."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_drawings import (
    Move,
    draw_entropies,
    draw_finals,
    draw_hottest,
    draw_losses,
    draw_max_logits,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import (
    OPTIMIZERS,
    STEPS_PER_RECORD,
    TUNED_RATES,
    HotRecord,
    threshold_label,
    train_hot,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import RECORDS, SEEDS, THRESHOLDS, TIMES, HotTraces
from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import Canvas


@dataclass(frozen=True)
class HotView:
    """One run.

    Attributes:
        times: the tuned rate.
        max_logits, entropies: ``[records so far, heads]``.
        losses, clipped: ``[records so far]``.
        free_losses: of the recorded runs with this optimizer and rate and no clip, mean over the seeds.
    """

    optimizer: str
    times: float
    threshold: float
    seed: int
    max_logits: Tensor
    entropies: Tensor
    losses: Tensor
    clipped: Tensor
    free_losses: Tensor
    weight_decay: float = 0.0


def view_clipped(traces: HotTraces, times: float, threshold: float, seed: int) -> HotView:
    """A recorded run of Muon."""
    place = TIMES.index(times), THRESHOLDS.index(threshold), SEEDS.index(seed)
    return HotView(
        "Muon",
        times,
        threshold,
        seed,
        traces.max_logits[place],
        traces.entropies[place],
        traces.losses[place],
        traces.clipped[place],
        _free_losses(traces, "Muon", times),
    )


def view_free(traces: HotTraces, optimizer: str, times: float, seed: int) -> HotView:
    """A recorded run without a clip."""
    place = OPTIMIZERS.index(optimizer), TIMES.index(times), SEEDS.index(seed)
    return HotView(
        optimizer,
        times,
        math.inf,
        seed,
        traces.free_max_logits[place],
        traces.free_entropies[place],
        traces.free_losses[place],
        torch.zeros(RECORDS),
        _free_losses(traces, optimizer, times),
    )


def _free_losses(traces: HotTraces, optimizer: str, times: float) -> Tensor:
    return traces.free_losses[OPTIMIZERS.index(optimizer), TIMES.index(times)].mean(dim=0)


def run_caption(view: HotView) -> str:
    """The heads and the loss at the latest record."""
    last, steps = view.max_logits[-1], STEPS_PER_RECORD * len(view.losses)
    clip = f"{view.clipped[-1]:.1f} of 8 heads clipped per step, " if view.threshold < math.inf else ""
    decay = f"weight decay {view.weight_decay:g}, " if view.weight_decay else ""
    return (
        f"{view.optimizer} at {view.times:g} × {TUNED_RATES[view.optimizer]:g}, {threshold_label(view.threshold)}, "
        f"{decay}seed {view.seed}, {steps} steps: largest logits from {last.min():,.0f} to {last.max():,.0f}, mean "
        f"entropy {view.entropies[-1].mean():.2f}, {clip}loss {view.losses[-1]:.2f}."
    )


def clipped_caption(traces: HotTraces, view: HotView) -> str:
    """The run, and Muon's recorded losses of all seeds with this rate and threshold."""
    finals = traces.final_losses[TIMES.index(view.times)]
    mean, low, high = student_interval(finals[THRESHOLDS.index(view.threshold)])
    free = f"; without a clip {finals[-1].mean():.2f}" if view.threshold < math.inf else ""
    ends = f"{len(SEEDS)} seeds: {mean:.2f} ({low:.2f} to {high:.2f}){free}"
    return f"{run_caption(view)} Recorded at the end, no decay, {ends}."


def free_caption(traces: HotTraces, view: HotView) -> str:
    """The run, and the hottest heads of all recorded runs at this rate."""
    ends = traces.free_max_logits[:, TIMES.index(view.times), :, -1].amax(dim=-1)
    ranges = [f"{name} {S.min():,.0f} to {S.max():,.0f}" for name, S in zip(OPTIMIZERS, ends, strict=True)]
    return f"{run_caption(view)} Hottest head at this rate, {len(SEEDS)} seeds: {'; '.join(ranges)}."


RUN_ALT = "The largest logit and the entropy of each of 8 heads over the steps; the loss"


def _draw_all(moves: Sequence[Move]) -> Callable[[HotView], None]:
    def draw(view: HotView) -> None:
        for move in moves:
            move(view)

    return draw


def _run_moves(canvas: Canvas, axes: dict[str, Any]) -> list[Move]:
    return [
        draw_max_logits(canvas, axes["logits"]),
        draw_entropies(canvas, axes["entropies"]),
        draw_losses(canvas, axes["losses"]),
    ]


def _four_plots(traces: HotTraces, draw_last: Any, caption: Any, words: str) -> dict[str, Any]:
    """The figure of a panel: the run, and beside it what draws all recorded ones."""
    canvas = Canvas(760, 540)
    axes = canvas.mosaic([["logits", "entropies"], ["losses", "last"]])
    moves = [*_run_moves(canvas, axes), draw_last(canvas, axes["last"], traces)]
    caption = functools.partial(caption, traces)
    return {"canvas": canvas, "draw": _draw_all(moves), "caption": caption, "alt": f"{RUN_ALT}; {words}."}


def times_label(times: float) -> str:
    """How a reader sees a rate.

    >>> times_label(1.0), times_label(2.5)
    ('tuned rate', '2.5 × tuned rate')
    """
    return "tuned rate" if times == 1 else f"{times:g} × tuned rate"


def _rate_and_seed(times: float) -> dict[str, Any]:
    return {
        "times": widgets.ToggleButtons(options=[(times_label(r), r) for r in TIMES], value=times),
        "seed": slider(widgets.SelectionSlider, "seed", options=SEEDS, value=0),
    }


def clipped_heads_explorer(traces: HotTraces, *, times: float = 10.0, threshold: float = 30.0) -> Panel[HotView]:
    """The threshold, the learning rate and the seed; every recorded run of Muon."""
    stops = [(threshold_label(t).center(9, FIGURE_SPACE), t) for t in THRESHOLDS]
    controls = {"threshold": slider(widgets.SelectionSlider, "threshold", options=stops, value=threshold)}
    compute = functools.partial(view_clipped, traces)
    figure = _four_plots(traces, draw_finals, clipped_caption, "the recorded loss at the end by threshold")
    return Panel(controls | _rate_and_seed(times), compute, **figure)


def hot_heads_explorer(traces: HotTraces, *, optimizer: str = "AdamW", times: float = 10.0) -> Panel[HotView]:
    """The optimizer, its learning rate and the seed; every recorded run without a clip."""
    controls = {"optimizer": widgets.ToggleButtons(options=list(OPTIMIZERS), value=optimizer)}
    compute = functools.partial(view_free, traces)
    figure = _four_plots(traces, draw_hottest, free_caption, "the hottest head of all runs by rate and optimizer")
    return Panel(controls | _rate_and_seed(times), compute, **figure)


def hot_heads_live(
    traces: HotTraces,
    *,
    optimizer: str = "Muon",
    times: float,
    threshold: float = math.inf,
    seed: int,
    weight_decay: float = 0.0,
    records: int = RECORDS,
) -> LiveRun[HotRecord]:
    """A `LiveRun` of a run of your own; see `train_hot` for the arguments.

    Its loss stands beside the mean of the recorded ones with this optimizer and rate, without a clip.

    The cell's last line is ``records = await hot_heads_live(traces, times=10, seed=...).run()``.

    Raises:
        ValueError: a rate or threshold that is not recorded; a seed that is: its run would be a repetition.
    """
    if seed in SEEDS and weight_decay == 0:
        raise ValueError(
            f"seed {seed} is recorded, its run would be a repetition: expected one that is not in {SEEDS}."
        )
    if times not in TIMES or threshold not in THRESHOLDS:
        raise ValueError(f"times is {times}, threshold {threshold}: expected one of {TIMES} and one of {THRESHOLDS}.")
    canvas = Canvas(760, 290)
    draw = _draw_all(_run_moves(canvas, canvas.mosaic([["logits", "entropies", "losses"]])))
    caption = functools.partial(clipped_caption, traces) if optimizer == "Muon" else run_caption

    def view(so_far: Sequence[HotRecord]) -> HotView:
        return HotView(
            optimizer,
            times,
            threshold,
            seed,
            torch.stack([record.max_logits for record in so_far]),
            torch.stack([record.entropies for record in so_far]),
            torch.tensor([record.loss for record in so_far]),
            torch.tensor([record.clipped for record in so_far]),
            _free_losses(traces, optimizer, times),
            weight_decay,
        )

    run = functools.partial(
        train_hot, optimizer=optimizer, times=times, threshold=threshold, seed=seed, weight_decay=weight_decay
    )
    return LiveRun(
        lambda: run(records=records),
        total=records,
        canvas=canvas,
        draw=lambda so_far: draw(view(so_far)),
        caption=lambda so_far: caption(view(so_far)),
        alt=f"{RUN_ALT}.",
    )
