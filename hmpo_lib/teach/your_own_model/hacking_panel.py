"""The panel of a reward: what a run earned beside what honest work would have earned, and what it wrote for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ipywidgets as widgets
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hmpo_lib.lm.tasks import reward_correct
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.your_own_model.rewards_experiment import Lesson, Pay, Reward, pay_of

SAMPLES = 4  # answers that are shown of each rollout


class Sample(NamedTuple):
    """An answer and what it earned."""

    prompt: str
    answer: str
    earned: float

    @property
    def line(self) -> str:
        """The answer with its mark."""
        mark = "✓" if reward_correct(self.prompt, self.answer) else "✗"
        return f"{self.prompt:>16} {self.answer:42} {mark} earns {self.earned:.1f}"


@dataclass(frozen=True)
class HackingView:
    """All rollouts in numbers, and one of them in words.

    Attributes:
        pays: of all rollouts.
        rollout: the one that is looked at, from 1.
        samples: some of its answers, to different prompts.
    """

    pays: tuple[Pay, ...]
    rollout: int
    samples: tuple[Sample, ...]


def view_rollout(lessons: Sequence[Lesson], pays: tuple[Pay, ...], rollout: int) -> HackingView:
    """One rollout's answers beside the numbers of all."""
    prompts, answers, rewards = lessons[rollout - 1]
    rows = range(0, len(answers), max(1, len(answers) // SAMPLES))
    samples = tuple(Sample(prompts[row], answers[row], float(rewards[row])) for row in rows)
    return HackingView(pays, rollout, samples[:SAMPLES])


def telling_rollout(pays: Sequence[Pay]) -> int:
    """The first rollout that earns a fifth more than honest work would, or the last one."""
    return next((k for k, pay in enumerate(pays, start=1) if pay.paid > 1.2 * pay.honest), len(pays))


def hacking_caption(view: HackingView) -> str:
    """The rollout in numbers."""
    pay = view.pays[view.rollout - 1]
    return (
        f"Rollout {view.rollout} of {len(view.pays)}: reward {pay.paid:.2f}, where honest work would earn "
        f"{pay.honest:.2f}; {100 * pay.right:.0f} % right."
    )


def hacking_alt(view: HackingView) -> str:
    """The curves by their ends, then the rollout and its answers."""
    first, last = view.pays[0], view.pays[-1]
    return (
        f"Two plots over the rollouts. The reward goes from {first.paid:.2f} to {last.paid:.2f}, beside what honest "
        f"work would earn, {first.honest:.2f} to {last.honest:.2f}; the share of right answers goes from "
        f"{first.right:.2f} to {last.right:.2f}. {hacking_caption(view)} "
        f"{'; '.join(' '.join(sample.line.split()) for sample in view.samples)}."
    )


def hacking_panel(
    lessons: Sequence[Lesson],
    reward: Reward,
    *,
    paid_elsewhere: Tensor | None = None,
    right_elsewhere: Tensor | None = None,
) -> Panel[HackingView]:
    """A run on a reward of sums: reward and right answers, and the answers of the rollout under the slider.

    Args:
        lessons: a rollout each, at least one: prompts, answers and rewards.
        reward: what paid them.
        paid_elsewhere: ``[seeds, rollouts]``, the reward of other runs, drawn pale.
        right_elsewhere: ``[seeds, rollouts]``, their share of right answers.
    """
    pays = tuple(pay_of(lesson, reward) for lesson in lessons)
    canvas = Canvas(760, 370)
    axes = canvas.mosaic([["pay", "right"], ["answers", "answers"]], height_ratios=[2.4, 1])
    xlim = (0.5, max(2.0, len(pays) + 0.5))
    top = 1.08 * max(max(pay.paid, pay.honest) for pay in pays)
    tidy_axes(axes["pay"], title="Reward, and what honest work earns", xlabel="rollout", xlim=xlim, ylim=(0, top))
    tidy_axes(axes["right"], title="Right answers", xlabel="rollout", xlim=xlim, ylim=(0, 1.02))
    label_ticks(axes["right"], [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    places = range(1, len(pays) + 1)
    for name, table in (("pay", paid_elsewhere), ("right", right_elsewhere)):
        for row in [] if table is None else table[:, : len(pays)].tolist():
            axes[name].plot(places[: len(row)], row, color=GREY, alpha=0.4, linewidth=1, label="other seeds")
    looks = (
        ("pay", "paid", "paid", ORANGE, "-"),
        ("pay", "honest", "honest work, all of it shown", BLACK, "--"),
        ("right", "right", "right", PURPLE, "-"),
    )
    for name, column, label, colour, dash in looks:
        values = [getattr(pay, column) for pay in pays]
        axes[name].plot(places, values, color=colour, linestyle=dash, linewidth=2.2, label=label)
        axes[name].xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    handles, labels = axes["pay"].get_legend_handles_labels()
    named = dict(zip(labels[::-1], handles[::-1], strict=True))  # one entry for all the other seeds
    canvas.figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    axes["answers"].axis("off")
    cursors = [canvas.animate(axes[name].axvline(1, color=GREY, linewidth=1.2)) for name in ("pay", "right")]
    dots = [canvas.animate(axes[name].plot([], [], "o", color=colour)[0]) for name, _, _, colour, _ in looks]
    below = axes["answers"]
    place: dict[str, Any] = {"transform": below.transAxes, "family": "DejaVu Sans Mono", "fontsize": 9.5, "va": "top"}
    lines = [canvas.animate(below.text(0, 1 - k / SAMPLES, "", **place)) for k in range(SAMPLES)]

    def draw(view: HackingView) -> None:
        pay = view.pays[view.rollout - 1]
        for cursor in cursors:
            cursor.set_xdata([view.rollout] * 2)
        for dot, (_, column, _, _, _) in zip(dots, looks, strict=True):
            dot.set_data([view.rollout], [getattr(pay, column)])
        for k, line in enumerate(lines):
            line.set_text(view.samples[k].line if k < len(view.samples) else "")

    rollout = slider(widgets.IntSlider, "rollout", value=telling_rollout(pays), min=1, max=len(pays))
    return Panel(
        {"rollout": rollout},
        lambda rollout: view_rollout(lessons, pays, rollout),
        canvas,
        draw=draw,
        caption=hacking_caption,
        alt=hacking_alt,
    )
