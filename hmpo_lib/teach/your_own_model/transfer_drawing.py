"""The figure of a transfer: four kinds of problems, before and after several runs on one of them, each run a mark."""

from collections.abc import Sequence

from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.your_own_model.transfer_experiment import Exam

MEASURES = (("worked", "Answers that show their work", PURPLE), ("score", "Right answers (the gym's score)", ORANGE))


def transfer_words(before: Sequence[Exam], runs: Sequence[Sequence[Exam]], measure: str) -> str:
    """Every row of a plot: the mean before, the runs' mean and range after."""
    rows = []
    for k, exam in enumerate(before):
        after = [float(getattr(run[k], measure).mean()) for run in runs]
        mean = sum(after) / len(after)
        old = float(getattr(exam, measure).mean())
        rows.append(f"{exam.kind} {old:.2f} → {mean:.2f} ({min(after):.2f} to {max(after):.2f})")
    return "; ".join(rows)


def transfer_picture(before: Sequence[Exam], runs: Sequence[Sequence[Exam]]) -> Still:
    """Work and score side by side, a row a kind: a circle before, a mark for each run after, a bar for their mean.

    Args:
        before: of the model as it was, an exam for each kind of problem.
        runs: of each model that was trained, as many.
    """
    assert all([exam.kind for exam in run] == [exam.kind for exam in before] for run in runs)
    count = len(before)
    canvas = Canvas(760, 90 + 52 * count)
    axes = canvas.mosaic([[name for name, _, _ in MEASURES]], sharey=True)
    for name, title, colour in MEASURES:
        plot = axes[name]
        tidy_axes(plot, title=title, xlabel="share", xlim=(-0.03, 1.03), ylim=(-0.6, count - 0.4))
        for k, exam in enumerate(before):
            height = count - 1 - k
            after = [float(getattr(run[k], name).mean()) for run in runs]
            old, mean = float(getattr(exam, name).mean()), sum(after) / len(after)
            plot.plot([old, mean], [height] * 2, color=GREY, linewidth=1, zorder=1)
            plot.plot([old], [height], "o", color=BLACK, markerfacecolor="white", markersize=7, zorder=2)
            rows = [height + 0.16 * (row - (len(after) - 1) / 2) for row in range(len(after))]  # none hides another
            plot.plot(after, rows, "s", color=colour, markersize=5, zorder=4)
            plot.plot([mean] * 2, [height - 0.38, height + 0.38], color=BLACK, linewidth=2, zorder=3)
        label_ticks(plot, [0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"], axis="x")
        label_ticks(plot, range(count - 1, -1, -1), [exam.kind for exam in before])
    parts = [f"{title.lower()}: {transfer_words(before, runs, name)}" for name, title, _ in MEASURES]
    caption = (
        f"Circle: before. Squares: after each of {len(runs)} runs. Bar: their mean. "
        f"{'. '.join(part[0].upper() + part[1:] for part in parts)}."
    )
    return Still(canvas, caption=caption, alt=f"Two plots with a row for each kind of problem. {caption}")
