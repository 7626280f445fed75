"""Muon head by head beside Muon: how far each head moves in one step, and what comes of it in training."""

import functools
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from torch import Tensor

from hmpo_lib.evaluation import student_interval
from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.optim.newton_schulz import orthogonalized
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import OPTIMIZERS, STEPS_PER_RECORD, TUNED_RATES
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import RECORDS, SEEDS, TIMES, HotTraces
from hmpo_lib.teach.muon_and_qk_clip.looks import HEADS_PER_LAYER, OPTIMIZER_LOOKS
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, Canvas, label_ticks, tidy_axes

MUONS = ("Muon", "Muon, per head")
TEXTS = 64
MATRICES = ("q", "k", "v")
NAMES = dict(zip(MUONS, ("one matrix", "per head"), strict=True))
SHIFTS = dict(zip(MUONS, (-0.12, 0.12), strict=True))
LONGEST = 6.3
DIFFERENCE_LIMITS = (-0.35, 0.35)
END_LIMITS = (1.05, 1.85)


@functools.cache
def first_step_lengths() -> dict[str, Tensor]:
    """How far a first step of Muon at rate 1 moves each head, ``[q k v, layers, seeds, heads]``, by kind of Muon.

    The length of a head's step is the root of the sum of its squared entries, of a new model's gradient on 64 texts.
    """
    tokenizer = make_tokenizer()
    lengths: dict[str, list[Tensor]] = {kind: [] for kind in MUONS}
    for seed in SEEDS:
        model = make_model(seed)
        ids, mask, labels = pretraining_batch(tokenizer, TEXTS, torch.Generator().manual_seed(seed))
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        grads = torch.stack(
            [
                torch.stack([getattr(layer.self_attn, f"{name}_proj").weight.grad for layer in model.model.layers])
                for name in MATRICES
            ]
        )  # [q k v, layers, out, in]
        heads = grads.unflatten(2, (HEADS_PER_LAYER, -1))
        whole = orthogonalized(grads.flatten(0, 1)).view_as(heads)
        apart = orthogonalized(heads.flatten(0, 2)).view_as(heads)
        for kind, step in zip(MUONS, (whole, apart), strict=True):
            lengths[kind].append(step.float().flatten(-2).norm(dim=-1))
    return {kind: torch.stack(of_seeds, dim=2) for kind, of_seeds in lengths.items()}


@dataclass(frozen=True)
class PerHeadView:
    """One matrix and one rate.

    Attributes:
        lengths: by kind of Muon, ``[seeds, heads]``.
        differences: loss per head minus loss with one matrix, same seeds, ``[seeds, records]``.
        finals: by kind, mean and interval of the loss at the end for each of TIMES.
        change: the difference at the end: mean and interval.
    """

    matrix: tuple[int, int]
    times: float
    lengths: dict[str, Tensor]
    differences: Tensor
    finals: dict[str, list[tuple[float, float, float]]]
    change: tuple[float, float, float]


def view_per_head(traces: HotTraces, lengths: dict[str, Tensor], matrix: tuple[int, int], times: float) -> PerHeadView:
    """The recorded runs of both kinds.

    Args:
        lengths: of `first_step_lengths`.
        matrix: which of q, k, v, and which layer, both from 0.
        times: the tuned rate.
    """
    r, places = TIMES.index(times), [OPTIMIZERS.index(kind) for kind in MUONS]
    whole, apart = (traces.free_losses[place, r] for place in places)
    ends = traces.free_final_losses[places]
    return PerHeadView(
        matrix,
        times,
        {kind: lengths[kind][matrix] for kind in MUONS},
        apart - whole,
        {kind: [student_interval(seeds) for seeds in of_kind] for kind, of_kind in zip(MUONS, ends, strict=True)},
        student_interval(ends[1, r] - ends[0, r]),
    )


def per_head_caption(view: PerHeadView) -> str:
    """How unequal the heads' steps are, and the losses."""
    name, layer = MATRICES[view.matrix[0]], view.matrix[1] + 1
    steps = ", ".join(f"{NAMES[kind]} {of.min():.2f} to {of.max():.2f}" for kind, of in view.lengths.items())
    ends = ", ".join(f"{NAMES[kind]} {of[TIMES.index(view.times)][0]:.2f}" for kind, of in view.finals.items())
    mean, low, high = view.change
    return (
        f"W_{name} of layer {layer}: lengths of the heads' first steps, {len(SEEDS)} seeds: {steps}. At "
        f"{view.times:g} × {TUNED_RATES['Muon']:g} the loss at the end: {ends}; per head minus one matrix, same seeds: "
        f"{mean:+.3f} ({low:+.3f} to {high:+.3f})."
    )


def per_head_explorer(traces: HotTraces, *, times: float = 1.0) -> Panel[PerHeadView]:
    """A choice of matrix and a learning rate; steps head by head, and the losses of both kinds of Muon."""
    canvas = Canvas(760, 320)
    axes = canvas.mosaic([["lengths", "differences", "finals"]])
    tidy_axes(axes["lengths"], title="Length of a first step", xlabel="head", xlim=(0.5, HEADS_PER_LAYER + 0.5))
    axes["lengths"].set_ylim(0, LONGEST)
    label_ticks(axes["lengths"], range(1, HEADS_PER_LAYER + 1), axis="x")
    steps = [STEPS_PER_RECORD * (k + 1) for k in range(RECORDS)]
    tidy_axes(axes["differences"], title="Difference of the loss", xlabel="optimizer steps", ylim=DIFFERENCE_LIMITS)
    axes["differences"].set_xlim(0, steps[-1] + 1)
    axes["differences"].axhline(0, color=BLACK, linewidth=0.8)
    for y, word, va in zip(DIFFERENCE_LIMITS, ("per head better", "per head worse"), ("bottom", "top"), strict=True):
        axes["differences"].text(steps[-1], 0.96 * y, word, color=GREY, fontsize=9, ha="right", va=va)
    curves = [canvas.animate(axes["differences"].plot([], [], color=GREY, linewidth=1.1, alpha=0.9)[0]) for _ in SEEDS]
    tidy_axes(axes["finals"], title="Loss at the end", xlabel="times the tuned rate", ylim=END_LIMITS)
    axes["finals"].set_xlim(-0.5, len(TIMES) - 0.5)
    label_ticks(axes["finals"], range(len(TIMES)), [f"{t:g} ×" for t in TIMES], axis="x")
    dots, bars, means, names = {}, {}, {}, {}
    for kind in MUONS:
        colour, _, marker = OPTIMIZER_LOOKS[kind]
        dots[kind] = canvas.animate(axes["lengths"].plot([], [], marker, markersize=5, color=colour, alpha=0.8)[0])
        name = axes["lengths"].text(HEADS_PER_LAYER / 2 + 0.5, 0, NAMES[kind], color=colour, fontsize=9, ha="center")
        names[kind] = canvas.animate(name)
        bars[kind] = [canvas.animate(axes["finals"].plot([], [], color=colour, linewidth=2)[0]) for _ in TIMES]
        means[kind] = canvas.animate(axes["finals"].plot([], [], marker, markersize=6, color=colour)[0])

    def draw(view: PerHeadView) -> None:
        for curve, values in zip(curves, view.differences, strict=True):
            curve.set_data(steps, values)
        for kind in MUONS:
            heads = torch.arange(1, HEADS_PER_LAYER + 1).expand(len(SEEDS), -1) + SHIFTS[kind]
            # Per head the steps are longer, so its name goes above its dots and the other below its own.
            lengths, longer = view.lengths[kind], kind == MUONS[1]
            names[kind].set(y=lengths.max() + 0.2 if longer else lengths.min() - 0.2, va="bottom" if longer else "top")
            dots[kind].set_data(heads.flatten(), view.lengths[kind].flatten())
            places = [k + SHIFTS[kind] for k in range(len(TIMES))]
            for place, bar, (_, low, high) in zip(places, bars[kind], view.finals[kind], strict=True):
                bar.set_data([place, place], [low, high])
            means[kind].set_data(places, [mean for mean, _, _ in view.finals[kind]])

    options = [(f"W_{name}, layer {layer + 1}", (m, layer)) for layer in range(2) for m, name in enumerate(MATRICES)]
    rates = [(f"{t:g} × {TUNED_RATES['Muon']:g}", t) for t in TIMES]
    controls = {
        "matrix": slider(widgets.SelectionSlider, "matrix", options=options, value=(0, 0)),
        "times": widgets.ToggleButtons(options=rates, value=times),
    }
    return Panel(
        controls,
        functools.partial(view_per_head, traces, first_step_lengths()),
        canvas,
        draw=draw,
        caption=per_head_caption,
        alt=(
            "Three plots for Muon on whole matrices and Muon per head: a dot for each head's first step and seed; the "
            "difference of the losses over the steps, a line for each seed; the loss at the end by learning rate, with "
            "intervals."
        ),
    )
