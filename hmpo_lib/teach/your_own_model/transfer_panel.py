"""The figure of notebook 10: what training on one kind of problem did for others, run by run."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ipywidgets as widgets
from torch import Tensor

from hmpo_lib.evaluation import student_interval
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLUE, GREY, Canvas, label_ticks, tidy_axes

MEASURES = ("score", "worked")
TITLES = {"score": "The gym's own score", "worked": "Share of answers that show the work"}


class Exam(NamedTuple):
    """How a model's answers to one kind of problem came out.

    Attributes:
        kind: the problems, in words.
        score: ``[problems, answers]``, what each answer earned.
        worked: ``[problems, answers]``, 1 where the work is shown, else 0.
    """

    kind: str
    score: Tensor
    worked: Tensor


class Interval(NamedTuple):
    """A mean with half the width of its 95 % interval."""

    mean: float
    half: float


def interval(values: Tensor) -> Interval:
    """The mean of ``[problems, answers]`` over the problems: the answers to one are not independent facts.

    >>> import torch
    >>> interval(torch.tensor([[1.0, 1.0], [0.0, 0.0]])).mean
    0.5
    """
    each = values.double().mean(dim=1)
    mean, low, high = student_interval(each)
    return Interval(mean, (high - low) / 2)


@dataclass(frozen=True)
class TransferView:
    """Before and after one run, kind by kind, for one measure; and the means after all the other runs."""

    run: int
    measure: str
    kinds: list[str]
    before: list[Interval]
    after: list[Interval]
    others: list[list[float]]  # kinds, other runs


def view_transfer(before: Sequence[Exam], runs: Sequence[Sequence[Exam]], run: int, measure: str) -> TransferView:
    """Both models' means and intervals on the same problems; runs are counted from 1."""
    after = runs[run - 1]
    assert [exam.kind for exam in before] == [exam.kind for exam in after]
    old, new = ([interval(getattr(exam, measure)) for exam in exams] for exams in (before, after))
    rest = [exams for index, exams in enumerate(runs, start=1) if index != run]
    others = [[interval(getattr(exams[k], measure)).mean for exams in rest] for k in range(len(before))]
    return TransferView(run, measure, [exam.kind for exam in before], old, new, others)


def transfer_caption(view: TransferView) -> str:
    """Every mean, before and after."""
    changes = zip(view.kinds, view.before, view.after, strict=True)
    numbers = "; ".join(f"{kind} {b.mean:.2f} → {a.mean:.2f} ± {a.half:.2f}" for kind, b, a in changes)
    return f"{TITLES[view.measure]}, before → after run {view.run}: {numbers}. Small marks: after the other runs."


def transfer_alt(view: TransferView) -> str:
    """The rows in words."""
    changes = zip(view.kinds, view.before, view.after, strict=True)
    rows = "; ".join(
        f"{kind}: {b.mean:.2f} (interval {b.mean - b.half:.2f} to {b.mean + b.half:.2f}) before, "
        f"{a.mean:.2f} ({a.mean - a.half:.2f} to {a.mean + a.half:.2f}) after"
        + (f", {' and '.join(f'{mean:.2f}' for mean in others)} after the other runs" if others else "")
        for (kind, b, a), others in zip(changes, view.others, strict=True)
    )
    return (
        f"{TITLES[view.measure]} before and after run {view.run}: a row for each kind of problem, two marks with "
        f"intervals in it. {rows}."
    )


def transfer_panel(before: Sequence[Exam], runs: Sequence[Sequence[Exam]]) -> Panel[TransferView]:
    """Two marks a row, before and after a run, for the score or for the share of worked answers.

    Args:
        before: of the model as it was, an exam for each kind of problem.
        runs: of each model that was trained, as many.
    """
    kinds, count = [exam.kind for exam in before], len(before)
    canvas = Canvas(760, 105 + 55 * count)
    bottom = 65 / canvas.height
    axes = canvas.figure.add_axes((0.27, bottom, 0.705, 1 - bottom - 40 / canvas.height))
    title, xlabel = "Before and after, with 95 % intervals", "share of the answers, or mean score"
    tidy_axes(axes, title=title, xlabel=xlabel, xlim=(-0.03, 1.03), ylim=(-0.6, count - 0.2))
    label_ticks(axes, range(count - 1, -1, -1), kinds)
    looks = {"before": (GREY, "o", "white", 0.12), "after": (BLUE, "s", BLUE, -0.12)}
    marks, bars = {}, {}
    for name, (colour, marker, face, _) in looks.items():
        marks[name] = canvas.animate(
            axes.plot([], [], marker, color=colour, markerfacecolor=face, markersize=8, label=name)[0]
        )
        bars[name] = [canvas.animate(axes.plot([], [], color=colour, linewidth=2)[0]) for _ in kinds]
    others = canvas.animate(
        axes.plot([], [], "s", color=BLUE, markerfacecolor="white", markersize=4, label="after the other runs")[0]
    )
    axes.legend(loc="lower right", fontsize=9, frameon=False)

    def draw(view: TransferView) -> None:
        for name, intervals in (("before", view.before), ("after", view.after)):
            heights = [count - 1 - row + looks[name][3] for row in range(count)]
            marks[name].set_data([i.mean for i in intervals], heights)
            for bar, i, height in zip(bars[name], intervals, heights, strict=True):
                bar.set_data([i.mean - i.half, i.mean + i.half], [height, height])
        rows = [(mean, count - 1 - row - 0.34) for row, means in enumerate(view.others) for mean in means]
        others.set_data([mean for mean, _ in rows], [height for _, height in rows])

    measure = widgets.ToggleButtons(options=[(TITLES[name], name) for name in MEASURES], style={"button_width": "auto"})
    return Panel(
        {"run": slider(widgets.IntSlider, "run", value=1, min=1, max=len(runs)), "measure": measure},
        functools.partial(view_transfer, before, runs),
        canvas,
        draw=draw,
        caption=transfer_caption,
        alt=transfer_alt,
    )
