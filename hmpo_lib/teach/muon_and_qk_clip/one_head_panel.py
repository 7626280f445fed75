"""One head of a model of two layers is clipped: which logits change, and where the head looks before and after."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.optim import MaxLogitMonitor
from hmpo_lib.optim.layouts import find_layout
from hmpo_lib.optim.qk_clip import clip_factors
from hmpo_lib.optim.scaling import scale_logits
from hmpo_lib.teach.muon_and_qk_clip.looks import HEADS_PER_LAYER
from hmpo_lib.teach.panels import Panel, slider
from hmpo_lib.teach.plotting import BLACK, ORANGE, PALE_GREY, SKY_BLUE, Canvas, label_ticks, tidy_axes

COLOURS = {"clipped": ORANGE, "the same, bit for bit": PALE_GREY, "changed": SKY_BLUE}


@dataclass(frozen=True)
class OneHeadView:
    """One head and one threshold; heads are numbered layer by layer from 0.

    Attributes:
        gamma: of that head; 1 where its largest logit is not above the threshold.
        before, after: S_max of each head, before its weights were scaled and in the next forward pass.
        map_before, map_after: that head's attention to the short text, ``[queries, keys]``.
    """

    head: int
    threshold: float
    gamma: float
    before: tuple[float, ...]
    after: tuple[float, ...]
    map_before: Tensor
    map_after: Tensor

    @property
    def states(self) -> list[str]:
        """What became of each head, one of COLOURS."""
        names = list(COLOURS)
        changed = [names[1] if one == two else names[2] for one, two in zip(self.before, self.after, strict=True)]
        return [names[0] if self.gamma < 1 and k == self.head else name for k, name in enumerate(changed)]


class _Model:
    """A copy of a model in double precision, one head of which can be clipped again and again."""

    def __init__(self, model: PreTrainedModel, ids: Tensor, mask: Tensor, text: Tensor) -> None:
        self._inputs, self._text = {"input_ids": ids, "attention_mask": mask}, text
        self._model = copy.deepcopy(model).double().eval()
        self._model.set_attn_implementation("eager")  # the one that hands out its weights
        self._weights = copy.deepcopy(self._model.state_dict())
        self.before, self.maps_before = self._look()

    @torch.no_grad()
    def _look(self) -> tuple[Tensor, Tensor]:
        """S_max of all heads over the texts, and all heads' attention ``[heads, queries, keys]`` to the short one."""
        attentions = self._model(input_ids=self._text, output_attentions=True).attentions
        monitor = MaxLogitMonitor(self._model)
        with torch.enable_grad():  # the monitor counts forward passes that learn
            self._model(**self._inputs)
        maxima = torch.cat(list(monitor.max_logits().values()))
        monitor.remove()
        return maxima, torch.cat(attentions, dim=1)[0]

    def clipped(self, head: int, gamma: float) -> tuple[Tensor, Tensor]:
        """The same after this head's weights were scaled by √γ each."""
        layer, place = divmod(head, HEADS_PER_LAYER)
        gammas = torch.ones(HEADS_PER_LAYER, dtype=torch.float64)
        gammas[place] = gamma
        attention = self._model.model.layers[layer].self_attn
        layout = find_layout(attention)
        assert layout is not None
        with torch.no_grad():
            scale_logits(attention, layout, gammas)
        after = self._look()
        self._model.load_state_dict(self._weights)
        return after


def view_one_head(model: _Model, head: int, threshold: float) -> OneHeadView:
    """The heads before and after the clip of one of them."""
    gamma = clip_factors(model.before[head], threshold).item()
    after, maps_after = model.clipped(head, gamma)
    return OneHeadView(
        head,
        threshold,
        gamma,
        tuple(model.before.tolist()),
        tuple(after.tolist()),
        model.maps_before[head],
        maps_after[head],
    )


def head_name(head: int) -> str:
    """How a reader counts.

    >>> head_name(5)
    'layer 2, head 2'
    """
    layer, place = divmod(head, HEADS_PER_LAYER)
    return f"layer {layer + 1}, head {place + 1}"


def one_head_caption(view: OneHeadView) -> str:
    """What became of all heads."""
    if view.gamma == 1:
        return (
            f"τ = {view.threshold:g}: the largest logit of {head_name(view.head)} is {view.before[view.head]:.2f}, not "
            "above τ, so nothing changes."
        )
    changed = [head_name(k) for k, state in enumerate(view.states) if state == "changed"]
    return (
        f"τ = {view.threshold:g}: {head_name(view.head)} is clipped by γ = {view.gamma:.2f}, its largest logit goes "
        f"from {view.before[view.head]:.2f} to {view.after[view.head]:.2f}. Other heads whose largest logit changes: "
        f"{'; '.join(changed) or 'none'}."
    )


def one_head_explorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Tensor,
    mask: Tensor,
    *,
    text: str = "7+12+5=24",
    head: int = 2,
    threshold: float = 3.0,
) -> Panel[OneHeadView]:
    """A choice of the head and a threshold over a model of two layers.

    Args:
        model, tokenizer: of two layers of four heads, such as the shipped one.
        ids, mask: ``[batch, time]``, the texts over which S_max is taken.
        text: whose attention is drawn.
        head: from 0, layer by layer.
        threshold: τ.
    """
    encoded = tokenizer(text, return_tensors="pt")["input_ids"]
    own = _Model(model, ids, mask, encoded)
    heads, highest = len(own.before), own.before.max().item()
    canvas = Canvas(760, 310)
    axes = canvas.mosaic([["bars", "before", "after"]], width_ratios=[1.7, 1, 1])
    bars = axes["bars"]
    tidy_axes(bars, title="Largest logit of each head", xlim=(-0.6, heads - 0.4), ylim=(0, 1.12 * highest))
    label_ticks(
        bars, range(heads), [f"{k // HEADS_PER_LAYER + 1}.{k % HEADS_PER_LAYER + 1}" for k in range(heads)], axis="x"
    )
    bars.set_xlabel("layer.head")
    columns = [canvas.animate(bar) for bar in bars.bar(range(heads), [0.0] * heads, width=0.6)]
    old = canvas.animate(bars.plot([], [], "_", color=BLACK, markersize=18, markeredgewidth=2)[0])
    line = canvas.animate(bars.plot([], [], color=ORANGE, linewidth=1.2, linestyle="--")[0])
    bars.text(0.01, 0.95, "— before the clip", fontsize=9, fontweight="bold", va="top", transform=bars.transAxes)
    name = canvas.animate(bars.text(heads - 0.4, 0, " τ", color=ORANGE, fontsize=10, va="center"))
    handles = [Patch(color=colour) for colour in COLOURS.values()]
    canvas.figure.legend(handles, list(COLOURS), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    start = set(tokenizer.all_special_tokens)  # too long for an axis
    tokens = ["▷" if token in start else token for token in tokenizer.convert_ids_to_tokens(encoded[0].tolist())]
    maps = [_draw_map(canvas, axes[turn], turn, tokens) for turn in ("before", "after")]

    def draw(view: OneHeadView) -> None:
        old.set_data(range(heads), view.before)
        for bar, value, state in zip(columns, view.after, view.states, strict=True):
            bar.set_height(max(value, 0.0))
            bar.set_color(COLOURS[state])
        line.set_data([-0.6, heads - 0.4], [view.threshold] * 2)
        name.set_y(view.threshold)
        for show, weights in zip(maps, (view.map_before, view.map_after), strict=True):
            show(view.head, weights)

    controls = {
        "threshold": slider(widgets.FloatSlider, "threshold τ", value=threshold, min=0.5, max=20.0, step=0.5),
        "head": slider(widgets.SelectionSlider, "head", options=[(head_name(k), k) for k in range(heads)], value=head),
    }
    return Panel(
        controls,
        functools.partial(view_one_head, own),
        canvas,
        draw=draw,
        caption=one_head_caption,
        alt=(
            "Bars of the largest logit of each of eight heads after one of them was clipped, with marks of what it was "
            f"before; two maps of that head's attention to the text {text}, darker for more."
        ),
    )


def _draw_map(canvas: Canvas, axes: Axes, turn: str, tokens: list[str]) -> Callable[[int, Tensor], None]:
    """A map of weights ``[queries, keys]``, from white for 0 to dark for 1."""
    title = canvas.animate(axes.set_title("head 0.0 before", loc="left", fontsize=10, fontweight="bold"))
    axes.set_xlabel("looks at (▷: <bos>)", fontsize=10)
    label_ticks(axes, range(len(tokens)), tokens, axis="x")
    label_ticks(axes, range(len(tokens)), tokens)
    if turn == "before":
        axes.set_ylabel("token", fontsize=10)
    image = canvas.animate(
        axes.imshow(torch.zeros(len(tokens), len(tokens)).numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    )

    def show(head: int, weights: Tensor) -> None:
        title.set_text(f"head {head // HEADS_PER_LAYER + 1}.{head % HEADS_PER_LAYER + 1} {turn}")
        image.set_data(weights.numpy())

    return show
