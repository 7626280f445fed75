"""The panel of memory: what a model takes while it samples and while it learns, and what fits a card."""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, SKY_BLUE, Canvas, label_ticks, tidy_axes

FLOAT = 4  # bytes
GIGA = 10**9
CARDS = (24, 80)  # GB, of common GPUs
ANSWERS = (64, 128, 256, 512)  # of a rollout
STEPS = 4  # optimizer steps per rollout
TOKENS = 512  # of an answer
PASSES = (1024, 4096, 16_384, math.inf)  # the most tokens of a pass


@dataclass(frozen=True)
class Shape:
    """What decides a model's memory; of the Llama family, with embeddings and head in one matrix.

    Attributes:
        name: as on the hub.
        parameters: weights.
        layers: blocks.
        width, inner: of the residual stream, of the feed-forward.
        queries, keys: width of all heads' queries together, and of their keys (and values).
        normed: queries and keys pass through a norm of their own (Qwen3).
    """

    name: str
    parameters: float
    layers: int
    width: int
    inner: int
    queries: int
    keys: int
    normed: bool = False

    @property
    def position(self) -> int:
        """Bytes that the backward pass needs of one position in float32: layers · (6 d + 4 d_inner + 2 d_q + 2 d_kv).

        With norms on queries and keys 2 d_q + 2 d_kv more; counted in transformers' models (docs/memory.md).
        """
        heads = (4 if self.normed else 2) * (self.queries + self.keys)
        return FLOAT * self.layers * (6 * self.width + 4 * self.inner + heads)

    @property
    def cached(self) -> int:
        """Bytes of keys and values that one token leaves while sampling, 4 bytes a number."""
        return 2 * self.layers * self.keys * FLOAT


SHAPES = (
    Shape("Qwen3-0.6B", 0.596e9, 28, 1024, 3072, 2048, 1024, normed=True),
    Shape("Llama-3.2-1B", 1.236e9, 16, 2048, 8192, 2048, 512),
    Shape("Qwen2.5-1.5B", 1.544e9, 28, 1536, 8960, 1536, 256),
    Shape("Llama-3.1-8B", 8.03e9, 32, 4096, 14_336, 4096, 1024),
)


@dataclass(frozen=True)
class MemoryView:
    """Gigabytes.

    Attributes:
        shape: of the model.
        answers: of a rollout.
        limit: the most tokens of a pass; infinite for a step in one pass.
        kept: weights, gradients and AdamW's two averages.
        cache: keys and values of all the rollout's answers.
        activations: what a pass keeps for its backward pass.
    """

    shape: Shape
    answers: int
    limit: float
    kept: float
    cache: float
    activations: float


def view_memory(shape: Shape, answers: int, limit: float) -> MemoryView:
    """What a rollout and one of its steps take, all in float32.

    >>> [round(view_memory(SHAPES[0], 256, limit).activations) for limit in (math.inf, 4096)]
    [113, 14]
    """
    held = min(limit, answers * TOKENS / STEPS)
    sizes = (16 * shape.parameters, shape.cached * answers * TOKENS, shape.position * held)
    kept, cache, activations = (size / GIGA for size in sizes)
    return MemoryView(shape, answers, limit, kept, cache, activations)


def memory_caption(view: MemoryView) -> str:
    """Both moments in numbers, and the smallest card that holds them."""
    largest = view.kept + max(view.cache, view.activations)
    fitting = [card for card in CARDS if largest < 0.75 * card]  # a quarter is for what is not counted
    verdict = f"Fits {fitting[0]} GB, with a quarter to spare" if fitting else f"Does not fit {CARDS[-1]} GB"
    limit = "the step in one pass" if view.limit == math.inf else f"at most {view.limit:,} tokens a pass"
    return (
        f"{view.shape.name}, {view.answers} answers of {TOKENS} tokens, {STEPS} steps, {limit}: {view.kept:.1f} GB for "
        f"weights, gradients and AdamW; and {view.cache:.1f} GB of cache while sampling, {view.activations:.1f} GB of "
        f"activations while learning. {verdict}."
    )


def memory_panel() -> Panel[MemoryView]:
    """Two bars, sampling and learning, against two cards."""
    canvas = Canvas(760, 220)
    axes = canvas.mosaic([["bars"]])["bars"]
    top = 160.0
    tidy_axes(axes, title="Memory at the two moments of a run", xlabel="GB, float32", xlim=(0, top), ylim=(-0.5, 1.85))
    label_ticks(axes, [1, 0], ["while sampling", "while learning"])
    for card in CARDS:
        axes.axvline(card, color=BLACK, linestyle=":", linewidth=1.5)
        axes.text(card + 1, 1.55, f"a card of {card} GB", fontsize=9)
    looks = (("kept", 1, GREY), ("kept", 0, GREY), ("cache", 1, SKY_BLUE), ("activations", 0, ORANGE))
    bars = [canvas.animate(axes.barh([height], [0], height=0.5, color=colour)[0]) for _, height, colour in looks]
    names = ["weights, gradients, AdamW", "cache of all answers", "activations of a pass"]
    canvas.figure.legend(bars[1:], names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    place: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 10, "fontweight": "bold"}
    beyond = [canvas.animate(axes.text(top - 2, height, "", **place)) for height in (1, 0)]

    def draw(view: MemoryView) -> None:
        for (name, _, _), bar in zip(looks, bars, strict=True):
            bar.set(x=0.0 if name == "kept" else view.kept, width=getattr(view, name))
        for text, more in zip(beyond, (view.cache, view.activations), strict=True):
            text.set_text(f"{view.kept + more:,.0f} GB →" if view.kept + more > top else "")

    limits = [("the whole step" if limit == math.inf else f"{limit:,}", limit) for limit in PASSES]
    shapes = widgets.Dropdown(options=[(shape.name, shape) for shape in SHAPES], value=SHAPES[0], description="model")
    return Panel(
        {
            "shape": shapes,
            "answers": slider(widgets.SelectionSlider, "answers per rollout", options=ANSWERS, value=256),
            "limit": slider(widgets.SelectionSlider, "max_tokens_per_pass", options=limits, value=math.inf),
        },
        view_memory,
        canvas,
        draw=draw,
        caption=memory_caption,
        alt=lambda view: f"Two bars, beside cards of {' and '.join(map(str, CARDS))} GB. {memory_caption(view)}",
    )
