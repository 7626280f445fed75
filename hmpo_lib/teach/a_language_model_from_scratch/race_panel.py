"""Notebook 06's training figures: the race that was recorded, the tuning before it, and a run of your own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.teach.a_language_model_from_scratch.race_drawings import (
    LONG,
    OWN,
    Curves,
    Point,
    draw_finals,
    draw_losses,
    draw_tuning,
    steps_of,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import RECORDS, STEPS, RaceRecord, Setting, race
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

ALT = "Held-out loss over the optimizer steps, and the losses at the end of all recorded runs."


class RaceView(NamedTuple):
    """What one position of the controls shows.

    Attributes:
        curves: held-out losses after each ten steps, of each line of the left plot.
        marked: the points of the right plot that stand out.
        caption: their numbers in words.
    """

    curves: Curves
    marked: Sequence[Point]
    caption: str


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


def _picture(names: Sequence[str], *, last: int, side: Callable[..., Any]) -> tuple[Canvas, Callable[[RaceView], None]]:
    """Loss curves on the left, and what ``side`` draws on the right."""
    canvas = Canvas(760, 340)
    axes = canvas.mosaic([["curves", "ends"]], width_ratios=(1.6, 1))
    move_curves, mark = draw_losses(canvas, axes["curves"], names, last=last), side(canvas, axes["ends"])

    def draw(view: RaceView) -> None:
        move_curves(view.curves)
        mark(view.marked)

    return canvas, draw


def _panel(controls: dict[str, Any], compute: Callable[..., RaceView], picture: Any) -> Panel[RaceView]:
    canvas, draw = picture
    return Panel(controls, compute, canvas, draw=draw, caption=lambda view: view.caption, alt=ALT)


def view_race(traces: RaceTraces, seed: int) -> RaceView:
    """The three recorded runs of a seed, where they end, and when one reaches the other."""
    place = SEEDS.index(seed)
    muon, adamw = traces.held_out_losses[:, place].tolist()
    long = traces.long_held_out_losses[place].tolist()
    passed, reached = steps_needed(muon, adamw[-1]), steps_needed(long, muon[-1])
    outcome = f"reaches Muon's final loss after {reached} steps" if reached else "never reaches Muon's final loss"
    caption = (
        f"Seed {seed}: after {STEPS} steps Muon is at {muon[-1]:.3f} and AdamW at {adamw[-1]:.3f}, which Muon "
        f"reached after {passed} steps. With {2 * STEPS} steps AdamW ends at {long[-1]:.3f} and {outcome}."
    )
    curves = (muon, adamw, long)
    return RaceView(curves, [(k - 0.12, curve[-1]) for k, curve in enumerate(curves)], caption)


def race_explorer(traces: RaceTraces) -> Panel[RaceView]:
    """A slider for the seed; the runs of both optimizers at their best."""
    finals = final_losses(traces)
    picture = _picture(list(finals), last=2 * STEPS, side=lambda canvas, axes: draw_finals(canvas, axes, finals))
    controls = {"seed": slider(widgets.SelectionSlider, "seed", options=SEEDS, value=0)}
    return _panel(controls, lambda seed: view_race(traces, seed), picture)


def view_tuning(traces: RaceTraces, muon: float, adamw: float) -> RaceView:
    """The tuning runs with these learning rates."""
    rates = dict(zip(OPTIMIZERS, (muon, adamw), strict=True))
    runs = [traces.tuning[k, RATES[name].index(rate)] for k, (name, rate) in enumerate(rates.items())]
    ends = [seeds[:, -1].mean().item() for seeds in runs]
    shown = [f"{name} at {rate:g} ends at {end:.3f}" for (name, rate), end in zip(rates.items(), ends, strict=True)]
    caption = (
        f"Seeds {TUNING_SEEDS[0]} and {TUNING_SEEDS[1]}, {STEPS} steps, held-out loss in nats per token, mean of both: "
        f"{shown[0]}, {shown[1]}."
    )
    marked = list(zip(rates.values(), ends, strict=True))
    return RaceView([curve for seeds in runs for curve in seeds.tolist()], marked, caption)


def tuning_explorer(traces: RaceTraces, *, muon: float = 0.005, adamw: float = 0.002) -> Panel[RaceView]:
    """A slider for the learning rate of each optimizer; every tuning run. The first rates are where they start."""

    def rate_slider(name: str, rate: float) -> Any:
        options = [(f"{rate:g}".center(7, FIGURE_SPACE), rate) for rate in RATES[name]]
        return slider(widgets.SelectionSlider, f"{name}, learning rate", options=options, value=rate)

    names = [name for name in OPTIMIZERS for _ in TUNING_SEEDS]
    picture = _picture(names, last=STEPS, side=lambda canvas, axes: draw_tuning(canvas, axes, traces))
    controls = {"muon": rate_slider("Muon", muon), "adamw": rate_slider("AdamW", adamw)}
    return _panel(controls, lambda muon, adamw: view_tuning(traces, muon, adamw), picture)


def race_live(
    traces: RaceTraces, setting: Setting, *, seed: int, records: int = RECORDS, model: PreTrainedModel | None = None
) -> LiveRun[RaceRecord]:
    """A `LiveRun` of one setting, over the recorded runs of all seeds; see `race` for the arguments.

    The cell's last line is ``records = await race_live(traces, setting, seed=5).run()``.
    """
    recorded = [run for runs in traces.held_out_losses.tolist() for run in runs]
    finals = {name: losses for name, losses in final_losses(traces).items() if name != LONG}
    names = [name for name in OPTIMIZERS for _ in SEEDS] + [OWN]
    canvas, draw = _picture(names, last=STEPS, side=lambda canvas, axes: draw_finals(canvas, axes, finals))

    def view(so_far: Sequence[RaceRecord]) -> RaceView:
        last = so_far[-1]
        whole = [(OPTIMIZERS.index(setting.optimizer) - 0.12, last.held_out_loss)] if len(so_far) == RECORDS else []
        caption = (
            f"{setting.optimizer} at {setting.rate:g}, seed {seed}, {last.step} steps: loss {last.loss:.3f} on the "
            f"latest texts, {last.held_out_loss:.3f} on the held-out ones. The coloured lines are recorded runs."
        )
        return RaceView([*recorded, [record.held_out_loss for record in so_far]], whole, caption)

    return LiveRun(
        lambda: race(setting, seed=seed, records=records, model=model),
        total=records,
        canvas=canvas,
        draw=lambda so_far: draw(view(so_far)),
        caption=lambda so_far: view(so_far).caption,
        alt=lambda so_far: f"{ALT} {view(so_far).caption}",
        model=model,
    )
