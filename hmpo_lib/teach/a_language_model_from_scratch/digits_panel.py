"""What each optimizer's model has learned by when: how often it is right where digits are copied, and in sums."""

from typing import NamedTuple

import ipywidgets as widgets

from hmpo_lib.teach.a_language_model_from_scratch.digits_experiment import KINDS, guesses, held_out_texts
from hmpo_lib.teach.a_language_model_from_scratch.digits_recording import RACE_TEXTS, RACE_TEXTS_SEED, DigitTraces
from hmpo_lib.teach.a_language_model_from_scratch.race_drawings import Curves, draw_curves
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import STEPS
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import OPTIMIZERS, SEEDS
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import Canvas

SHOWN = ("copied digits", "last digits of sums")


class DigitsView(NamedTuple):
    """One seed's shares of right tokens by kind of place, of Muon and of AdamW."""

    seed: int
    curves: dict[str, Curves]

    @property
    def caption(self) -> str:
        """Where the runs end."""
        ends = [
            f"{kind} {muon[-1]:.2f} with Muon, {adamw[-1]:.2f} with AdamW"
            for kind, (muon, adamw) in self.curves.items()
        ]
        return f"Seed {self.seed}, right after {STEPS} steps: {'; '.join(ends)}."


def view_digits(traces: DigitTraces, seed: int) -> DigitsView:
    """The recorded runs of a seed."""
    runs = traces.right[:, SEEDS.index(seed)]
    return DigitsView(seed, {kind: runs[..., KINDS.index(kind)].tolist() for kind in SHOWN})


def digits_explorer(traces: DigitTraces) -> Panel[DigitsView]:
    """A slider for the seed; the runs of the race, read at digits that are copied and where a sum's last one is due."""
    canvas = Canvas(760, 320)
    axes = canvas.mosaic([list(SHOWN)])
    _, guessed = guesses(held_out_texts(RACE_TEXTS, RACE_TEXTS_SEED))
    moves = {}
    for kind, title in zip(SHOWN, ("Right at a copied digit", "Right at the last digit of a sum"), strict=True):
        floor = (guessed[KINDS.index(kind)], "a guess")
        moves[kind] = draw_curves(canvas, axes[kind], OPTIMIZERS, title=title, last=STEPS, floor=floor, limits=(0, 1))

    def draw(view: DigitsView) -> None:
        for kind, curves in view.curves.items():
            moves[kind](curves)

    controls = {"seed": slider(widgets.SelectionSlider, "seed", options=SEEDS, value=0)}
    return Panel(
        controls,
        lambda seed: view_digits(traces, seed),
        canvas,
        draw=draw,
        caption=lambda view: view.caption,
        alt="Shares of right tokens over the optimizer steps at two kinds of places, over a guess.",
    )
