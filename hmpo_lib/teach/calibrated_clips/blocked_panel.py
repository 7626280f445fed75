"""The panel of what two clips block: real answers, and the same share of their tokens by either clip."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from hmpo_lib.losses import policy_loss
from hmpo_lib.means import log_power_mean
from hmpo_lib.objectives import Clip, Objective
from hmpo_lib.teach.panels import Panel, p_label, slider
from hmpo_lib.teach.plotting import ORANGE, PURPLE, Canvas
from hmpo_lib.teach.shared.recorded_ratios import END, STAGES, RatioSample, RecordedRatios

STALENESS = 4
ROWS = 20  # answers shown, evenly from the shortest to the longest
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
BOOK_SHARES = (0.01, 0.05, 0.1, 0.2, 0.4)
EXPONENTS = (-1.0, 0.0, 1.0)
NAMES: dict[Clip, str] = {"token": "Clip on the tokens", "sequence": "Clip on the mean"}
COLOURS: dict[Clip, str] = {"token": ORANGE, "sequence": PURPLE}
WHITE, PALE = (1.0, 1.0, 1.0), (0.95, 0.95, 0.95)
LETTER = 0.602  # width of a letter of the monospaced font, in its size
TINY = 1e-9  # below the gaps between recorded ratios, above the rounding of exp and ln


@dataclass(frozen=True)
class BlockedView:
    """What either clip blocks of one stage's answers.

    Attributes:
        share, p: as asked for.
        answers: how many there are with an advantage that is not 0.
        texts, good: the answers shown and whether A > 0.
        blocked: by place of the clip, for each answer shown, which of its tokens are blocked.
        touched: by place, how many of all answers have a blocked token.
        cosine: of the two gradients.
    """

    share: float
    p: float
    answers: int
    texts: tuple[str, ...]
    good: tuple[bool, ...]
    blocked: dict[Clip, tuple[tuple[bool, ...], ...]]
    touched: dict[Clip, int]
    cosine: float


def moved_in_the_wanted_direction(sample: RatioSample, p: float, clip: Clip) -> Tensor:
    """What a clip compares with its width: sign(A) times the log-ratio of each token, or times ln M_p of its answer."""
    log_ratios = sample.log_ratios
    if clip == "sequence":
        log_ratios = log_power_mean(log_ratios, p, sample.completion_mask).unsqueeze(1).expand_as(log_ratios)
    return sample.advantages.sign().unsqueeze(1) * log_ratios


def width_at(moved: Tensor, counted: Tensor, share: float) -> float:
    """The smallest width that blocks at most this share of the counted tokens."""
    ordered = moved[counted].sort().values
    return ordered[len(ordered) - 1 - math.floor(share * len(ordered))].item() + TINY


def view_blocked(recorded: RecordedRatios, stage: str, share: float, p: float) -> BlockedView:
    """Calibrate both clips to this share, and compare what they block.

    >>> from hmpo_lib.teach import load_recorded_ratios
    >>> view = view_blocked(load_recorded_ratios(), "after 40 rollouts", 0.05, 0.0)
    >>> view.answers, view.touched["token"] > 10 * view.touched["sequence"]
    (528, True)
    """
    sample = recorded.at(stage, STALENESS)
    sample = sample.select(sample.advantages != 0)
    mask = sample.completion_mask
    blocked, gradients = {}, []
    for clip in NAMES:
        moved = moved_in_the_wanted_direction(sample, p, clip)
        width = width_at(moved, mask, share)
        blocked[clip] = (moved > width) & mask
        d = sample.log_ratios.clone().requires_grad_()
        objective = Objective(p, clip, (math.exp(-width), math.exp(width)))
        loss = policy_loss(d, torch.zeros_like(d), sample.advantages, mask, objective).loss
        gradients.append(torch.autograd.grad(loss, d)[0].flatten())
    by_length = sample.lengths.sort(stable=True).indices
    rows = by_length[((torch.arange(ROWS) + 0.5) / ROWS * len(by_length)).long()].tolist()
    return BlockedView(
        share,
        p,
        len(mask),
        tuple("".join(sample.token_texts(row)) for row in rows),
        tuple((sample.advantages[rows] > 0).tolist()),
        {clip: tuple(tuple(where[row][mask[row]].tolist()) for row in rows) for clip, where in blocked.items()},
        {clip: int(where.any(dim=1).sum()) for clip, where in blocked.items()},
        torch.cosine_similarity(gradients[0], gradients[1], dim=0).item(),
    )


def blocked_caption(view: BlockedView) -> str:
    """How many answers either clip touches, and how far apart it turns the two steps."""
    return (
        f"Either clip blocks {100 * view.share:g} % of the tokens: the one on tokens some in "
        f"{view.touched['token']} of {view.answers} answers, the one on the mean {view.touched['sequence']} answers "
        f"whole. Cosine of the two steps at p = {view.p:g}: {view.cosine:.2f}.".replace("-", "−")
    )


def blocked_explorer(
    recorded: RecordedRatios, *, stage: str = STAGES[1], share: float = 0.2, p: float = 0.0
) -> Panel[BlockedView]:
    """Answers as text, twice: coloured is what a clip on the tokens blocks, and what one on the mean blocks."""
    longest = max(int(recorded.at(name, STALENESS).lengths.max()) for name in STAGES)
    canvas = Canvas(760, 400)
    axes = canvas.mosaic([["token", "sequence"]])
    pixels, titles = {}, {}
    for clip, name in NAMES.items():
        panel = axes[clip]
        box = (-0.5, longest - 0.5, ROWS - 0.5, -0.5)
        pixels[clip] = canvas.animate(panel.imshow([[WHITE] * longest] * ROWS, aspect="auto", extent=box))
        panel.set(xlim=(-2.5, longest - 0.5), ylim=(ROWS - 0.5, -0.5), xticks=[], yticks=[], frame_on=False)
        panel.set_title(name, loc="left", fontsize=10, fontweight="bold")
        titles[clip] = canvas.animate(panel.set_title("", loc="right", fontsize=9.5))
    canvas.figure.draw_without_rendering()  # places the axes, so that a letter can be as wide as a cell
    cell = axes["token"].get_window_extent().width / canvas.figure.dpi * 72 / (longest + 2)
    lines = {
        clip: [
            [
                canvas.animate(panel.text(x, row, "", va="center", fontsize=cell / LETTER, family="monospace"))
                for x in (-2.3, -0.5)
            ]
            for row in range(ROWS)
        ]
        for clip, panel in axes.items()
    }

    def draw(view: BlockedView) -> None:
        for clip, colour in COLOURS.items():
            cells = [[WHITE] * longest for _ in range(ROWS)]
            for row, (text, good, blocked) in enumerate(zip(view.texts, view.good, view.blocked[clip], strict=True)):
                sign, letters = lines[clip][row]
                sign.set_text("+" if good else "−")
                letters.set_text(text.replace(END, " "))
                for k, out in enumerate(blocked):
                    cells[row][k] = to_rgb(colour) if out else PALE
            pixels[clip].set_data(cells)
            titles[clip].set_text(f"in {view.touched[clip]} of all {view.answers} answers")

    stops = [(f"{100 * value:g} %", value) for value in SHARES]
    return Panel(
        {
            "share": slider(widgets.SelectionSlider, "blocked share of the tokens", options=stops, value=share),
            "p": slider(widgets.SelectionSlider, "exponent", options=[(p_label(q), q) for q in EXPONENTS], value=p),
            "stage": widgets.ToggleButtons(options=list(STAGES), value=stage),
        },
        lambda share, p, stage: view_blocked(recorded, stage, share, p),
        canvas,
        draw=draw,
        caption=blocked_caption,
        alt=f"{ROWS} answers as text, one a line, twice: on the left what a clip on the tokens blocks is coloured, "
        "on the right what a clip on the mean blocks, whole lines.",
        book={"share": BOOK_SHARES},
    )
