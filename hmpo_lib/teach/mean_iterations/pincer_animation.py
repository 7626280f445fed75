"""The arithmetic-harmonic iteration as a picture that moves: two numbers close in, digit by digit."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from matplotlib.axes import Axes

from hmpo_lib.iterations import arithmetic_harmonic_mean
from hmpo_lib.teach.animations import Animation
from hmpo_lib.teach.mean_iterations.pincer_panel import look_of
from hmpo_lib.teach.plotting import BLACK, GREY, MEAN_STYLES, Canvas, label_ticks, tidy_axes


def pincer_animation(a: int, b: int, *, steps: int = 4) -> Animation:
    """Two whole numbers closing in by their arithmetic and harmonic mean; digits that agree are bold."""
    if a == b or not all(isinstance(x, int) and 1 <= x <= 99 for x in (a, b)):
        raise ValueError(f"a = {a!r}, b = {b!r}: give two different whole numbers from 1 to 99.")
    history = arithmetic_harmonic_mean(Fraction(max(a, b)), Fraction(min(a, b)), max_steps=steps, tolerance=0).history
    rows = [(decimals(x), decimals(y)) for x, y in history]
    canvas = Canvas(760, 270)
    axes = canvas.mosaic([["jaws", "table"]], width_ratios=(1, 1.25))
    move_jaws = _draw_falling_jaws(canvas, axes["jaws"], history)
    show_rows = _draw_table(canvas, axes["table"], axes["jaws"], rows)

    def draw(progress: float) -> None:
        move_jaws(progress)
        show_rows(progress)

    glides = 8  # pictures from one step to the next
    frames: list[tuple[float, int]] = []
    for step in range(steps):
        frames.append((float(step), 1400))
        frames += [(step + k / glides, 80) for k in range(1, glides)]
    frames.append((float(steps), 4000))
    agreed = ", ".join(str(count_digits(common_start(*row))) for row in rows)
    return Animation(
        canvas,
        draw,
        frames,
        caption=f"{steps} steps of arithmetic and harmonic mean from {a} and {b}. Run the cell to see it again.",
        alt=f"Two markers start at {a} and {b} and close in on {math.sqrt(a * b):.6f}, row by row. The number of "
        f"digits in which the two agree, from the start on: {agreed}.",
    )


def decimals(x: Fraction, places: int = 14) -> str:
    """A fraction with so many decimals, cut off, not rounded.

    >>> decimals(Fraction(17, 12), 5)
    ' 1.41666'
    """
    whole, rest = divmod(x.numerator * 10**places // x.denominator, 10**places)
    return f"{whole:2}.{rest:0{places}}"  # whole parts of one width, so that digits stand over digits


def common_start(x: str, y: str) -> str:
    """The characters with which two decimal numbers of equal width begin alike.

    >>> common_start("1.4142", "1.4139")
    '1.41'
    """
    same = [p == q for p, q in zip(x, y, strict=True)]
    return x[: same.index(False)] if False in same else x


def count_digits(text: str) -> int:
    """How many of the characters are digits, not the point."""
    return sum(map(str.isdigit, text))


def _draw_falling_jaws(canvas: Canvas, axes: Axes, history: Sequence[Any]) -> Callable[[float], None]:
    """The two numbers, step below step; between two steps they glide."""
    (high, low), steps = history[0], len(history) - 1
    margin = math.log(high / low) * 0.06
    tidy_axes(axes, xlabel="a and h, on a logarithmic scale", ylabel="steps", ylim=(steps + 0.35, -0.35))
    axes.set_xscale("log")
    axes.set_xlim(float(low) * math.exp(-margin), float(high) * math.exp(margin))
    middle = math.sqrt(high * low)
    label_ticks(axes, [float(low), middle, float(high)], [f"{low}", f"√{high * low}", f"{high}"], axis="x")
    label_ticks(axes, range(steps + 1))
    axes.axvline(middle, color=BLACK, linewidth=1)
    paths = []
    for name, values in zip(("arithmetic", "harmonic"), zip(*history, strict=True), strict=True):
        line = canvas.animate(axes.plot([], [], **look_of(name))[0])
        paths.append((line, [math.log(value) for value in values]))

    def move(progress: float) -> None:
        done = int(progress)
        for line, logs in paths:
            here = logs[done] + (progress - done) * (logs[min(done + 1, steps)] - logs[done])
            line.set_data([math.exp(x) for x in (*logs[: done + 1], here)], [*range(done + 1), progress])

    return move


def _draw_table(canvas: Canvas, table: Axes, jaws: Axes, rows: list[tuple[str, str]]) -> Callable[[float], None]:
    """The two numbers of each step, in the step's row of the jaws."""
    table.set(ylim=jaws.get_ylim(), xlim=(0, 1))
    table.axis("off")
    columns, end = (0.0, 0.44), 1.0
    above = table.get_xaxis_transform()  # across in the data's units, up in shares of the axes
    for x, name in zip(columns, ("arithmetic", "harmonic"), strict=True):
        head: dict[str, Any] = {"fontweight": "bold", "color": MEAN_STYLES[name].colour, "transform": above}
        table.text(x + 0.02, 1.02, f"{name} mean", **head)
    table.text(end, 1.02, "agree", ha="right", fontweight="bold", transform=above)

    def put(x: float, row: int, text: str, **look: Any) -> Any:
        return canvas.animate(table.text(x, row, text, va="center", fontsize=10, **look))

    lines = []
    for k, row in enumerate(rows):
        same = common_start(*row)
        texts = [put(end, k, f"{count_digits(same)}", ha="right")]
        for x, number in zip(columns, row, strict=True):
            texts.append(put(x, k, same, family="monospace", fontweight="bold"))
            texts.append(put(x, k, " " * len(same) + number[len(same) :], family="monospace", color=GREY))
        lines.append(texts)

    def show(progress: float) -> None:
        for k, texts in enumerate(lines):
            for text in texts:
                text.set_visible(k <= progress)

    return show
