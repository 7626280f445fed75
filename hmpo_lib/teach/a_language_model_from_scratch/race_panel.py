"""Notebook 06's training figures: the tuning of both optimizers, the race that was recorded, and one of your own."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.a_language_model_from_scratch.race_drawings import (
    LONG,
    OWN,
    draw_finals,
    draw_loss_curves,
    draw_tuning,
    steps_of,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import (
    RECORDS,
    STEPS,
    RaceRecord,
    Setting,
    held_out_batch,
    least_loss,
    race,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import (
    OPTIMIZERS,
    RATES,
    SEEDS,
    TUNING_SEEDS,
    RaceTraces,
)
from hmpo_lib.teach.live import LiveRun
from hmpo_lib.teach.panels import FIGURE_SPACE, Panel, slider
from hmpo_lib.teach.plotting import Canvas

Curves = tuple[tuple[float, ...], ...]

LEFT, RIGHT = (0.065, 0.14, 0.5, 0.76), (0.645, 0.14, 0.34, 0.76)  # the two axes, as parts of the canvas


# --- tuning ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TuningView:
    """A learning rate for each optimizer; held-out losses of the tuning seeds.

    Attributes:
        rates: of Muon and of AdamW.
        curves: Muon's seeds, then AdamW's.
        finals: mean over the seeds after the last step.
    """

    rates: tuple[float, float]
    curves: Curves
    finals: tuple[float, float]


def view_tuning(traces: RaceTraces, muon: float, adamw: float) -> TuningView:
    """The tuning runs with these learning rates."""
    runs = [
        traces.tuning[k, RATES[name].index(rate)]
        for k, (name, rate) in enumerate(zip(OPTIMIZERS, (muon, adamw), strict=True))
    ]
    curves = tuple(tuple(seed) for seeds in runs for seed in seeds.tolist())
    return TuningView((muon, adamw), curves, (runs[0][:, -1].mean().item(), runs[1][:, -1].mean().item()))


def tuning_caption(view: TuningView) -> str:
    """The losses at the end with these rates."""
    return (
        f"Seeds {TUNING_SEEDS[0]} and {TUNING_SEEDS[1]}, {STEPS} steps: Muon at {view.rates[0]:g} ends at a held-out "
        f"loss of {view.finals[0]:.3f}, AdamW at {view.rates[1]:g} at {view.finals[1]:.3f} nats per token."
    )


def tuning_alt(traces: RaceTraces, view: TuningView) -> str:
    """The two plots in words."""
    grids = [
        f"{name} " + ", ".join(f"{rate:g}: {loss:.2f}" for rate, loss in zip(RATES[name], means.tolist(), strict=True))
        for name, means in zip(OPTIMIZERS, traces.tuning[..., -1].mean(dim=-1), strict=True)
    ]
    return (
        f"Held-out loss over the steps, two seeds each for Muon at {view.rates[0]:g} and AdamW at {view.rates[1]:g}, "
        f"and the loss at the end by learning rate: {'; '.join(grids)}."
    )


def tuning_explorer(traces: RaceTraces) -> Panel[TuningView]:
    """A slider for the learning rate of each optimizer; every tuning run."""
    canvas = Canvas(760, 360)
    styles = [name for name in OPTIMIZERS for _ in TUNING_SEEDS]
    moves = [
        draw_loss_curves(canvas, canvas.figure.add_axes(LEFT), styles, last=STEPS, least=least_loss(held_out_batch())),
        draw_tuning(canvas, canvas.figure.add_axes(RIGHT), traces),
    ]

    def draw(view: TuningView) -> None:
        for move in moves:
            move(view)

    def rate_slider(name: str, place: int) -> Any:
        options = [(f"{rate:g}".center(7, FIGURE_SPACE), rate) for rate in RATES[name]]
        return slider(widgets.SelectionSlider, f"{name}, learning rate", options=options, value=RATES[name][place])

    controls = {"muon": rate_slider("Muon", 0), "adamw": rate_slider("AdamW", 0)}
    compute = functools.partial(view_tuning, traces)
    alt = functools.partial(tuning_alt, traces)
    return Panel(controls, compute, canvas, draw=draw, caption=tuning_caption, alt=alt)


# --- the recorded race -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RaceView:
    """One seed: held-out losses.

    Attributes:
        curves: Muon, AdamW, AdamW for twice the steps; or what `race_live` shows.
        ends: the last values of those three; None where none is to be marked.
    """

    curves: Curves
    ends: tuple[float | None, ...]
    seed: int


def final_losses(traces: RaceTraces) -> dict[str, Tensor]:
    """Held-out loss after the last step, ``[seeds]``, of Muon, AdamW and AdamW for twice the steps."""
    muon, adamw = traces.held_out_losses[..., -1]
    return {"Muon": muon, "AdamW": adamw, LONG: traces.long_held_out_losses[:, -1]}


def steps_needed(losses: Sequence[float], goal: float) -> int | None:
    """After how many steps the loss is first at the goal or below it, to the nearest record; None if it never is.

    >>> steps_needed([2.0, 1.5, 1.2], goal=1.5), steps_needed([2.0, 1.5, 1.2], goal=1.0)
    (20, None)
    """
    return next((step for step, loss in zip(steps_of(losses), losses, strict=True) if loss <= goal), None)


def view_race(traces: RaceTraces, seed: int) -> RaceView:
    """The three recorded runs of a seed."""
    place = SEEDS.index(seed)
    muon, adamw = traces.held_out_losses[:, place].tolist()
    curves = (tuple(muon), tuple(adamw), tuple(traces.long_held_out_losses[place].tolist()))
    return RaceView(curves, tuple(curve[-1] for curve in curves), seed)


def race_caption(view: RaceView) -> str:
    """Where the three runs end, and when one reaches the other."""
    muon, adamw, long = view.curves
    passed, reached = steps_needed(muon, adamw[-1]), steps_needed(long, muon[-1])
    outcome = f"reaches Muon's final loss after {reached} steps" if reached else "never reaches Muon's final loss"
    return (
        f"Seed {view.seed}: after {STEPS} steps Muon is at {muon[-1]:.3f} and AdamW at {adamw[-1]:.3f}, which Muon "
        f"reached after {passed} steps. With {2 * STEPS} steps AdamW ends at {long[-1]:.3f} and {outcome}."
    )


def race_alt(traces: RaceTraces, view: RaceView) -> str:
    """The two plots in words."""
    ends = ", ".join(f"{style} {losses.mean():.2f}" for style, losses in final_losses(traces).items())
    return (
        f"Held-out loss over the steps for Muon, AdamW and AdamW with twice the steps, seed {view.seed}, and the "
        f"losses at the end of all five seeds with intervals; means: {ends}. {race_caption(view)}"
    )


def _finals_for_plot(traces: RaceTraces) -> dict[str, tuple[list[float], tuple[float, float, float]]]:
    return {style: (losses.tolist(), student_interval(losses)) for style, losses in final_losses(traces).items()}


def race_explorer(traces: RaceTraces) -> Panel[RaceView]:
    """A slider for the seed; the runs of both optimizers at their best."""
    canvas = Canvas(760, 360)
    styles, least = ["Muon", "AdamW", LONG], least_loss(held_out_batch())
    moves = [
        draw_loss_curves(canvas, canvas.figure.add_axes(LEFT), styles, last=2 * STEPS, least=least),
        draw_finals(canvas, canvas.figure.add_axes(RIGHT), _finals_for_plot(traces)),
    ]

    def draw(view: RaceView) -> None:
        for move in moves:
            move(view)

    controls = {"seed": slider(widgets.SelectionSlider, "seed", options=SEEDS, value=0)}
    compute, alt = functools.partial(view_race, traces), functools.partial(race_alt, traces)
    return Panel(controls, compute, canvas, draw=draw, caption=race_caption, alt=alt)


# --- a run of your own -----------------------------------------------------------------------------------------------


def race_live(
    traces: RaceTraces, setting: Setting, *, seed: int, records: int = RECORDS, model: PreTrainedModel | None = None
) -> LiveRun[RaceRecord]:
    """A `LiveRun` of one setting, over the recorded runs of all seeds; see `race` for the arguments.

    The cell's last line is ``records = await race_live(traces, setting, seed=5).run()``.
    """
    canvas = Canvas(760, 360)
    styles = [name for name in OPTIMIZERS for _ in SEEDS] + [OWN]
    recorded = tuple(tuple(run) for runs in traces.held_out_losses.tolist() for run in runs)
    place = OPTIMIZERS.index(setting.optimizer)
    moves = [
        draw_loss_curves(canvas, canvas.figure.add_axes(LEFT), styles, last=STEPS, least=least_loss(held_out_batch())),
        draw_finals(canvas, canvas.figure.add_axes(RIGHT), _finals_for_plot(traces)),
    ]

    def draw(so_far: Sequence[RaceRecord]) -> None:
        own = tuple(record.held_out_loss for record in so_far)
        ends = tuple(own[-1] if k == place and len(own) == RECORDS else None for k in range(3))
        for move in moves:
            move(RaceView((*recorded, own), ends, seed))

    def caption(so_far: Sequence[RaceRecord]) -> str:
        last = so_far[-1]
        return (
            f"{setting.optimizer} at {setting.rate:g}, seed {seed}, {last.step} steps: loss {last.loss:.3f} on the "
            f"latest texts, {last.held_out_loss:.3f} on the held-out ones. The coloured lines are recorded runs."
        )

    return LiveRun(
        lambda: race(setting, seed=seed, records=records, model=model),
        total=records,
        canvas=canvas,
        draw=draw,
        caption=caption,
        alt=lambda so_far: f"Held-out loss over the steps, beside ten recorded runs. {caption(so_far)}",
        model=model,
    )
