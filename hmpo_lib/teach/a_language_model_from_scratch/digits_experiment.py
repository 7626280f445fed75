"""What a model can do at each kind of place of a worked answer, and without which of its heads it no longer can."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from hmpo_lib.lm.model import make_tokenizer
from hmpo_lib.lm.tasks import Question, sample_questions
from hmpo_lib.teach.a_language_model_from_scratch.worked_places import worked_places

KINDS = ("copied digits", "ends of numbers", "last digits of sums")
MODES = ("zero", "mean")
LAYERS, HEADS = 2, 4  # of the tiny Llama; both are counted from 1
SUBSETS = tuple(tuple(head for head in range(1, HEADS + 1) if k >> (head - 1) & 1) for k in range(2**HEADS))


class WorkedTexts(NamedTuple):
    """Questions with their worked answers as one batch, and the places of each kind.

    Attributes:
        input_ids, attention_mask: ``[texts, time]``, padded on the right.
        places: ``[kinds, texts, time - 1]``, where the next token is one of the kind.
    """

    input_ids: Tensor
    attention_mask: Tensor
    places: Tensor


def worked_texts(questions: Collection[Question]) -> WorkedTexts:
    """The batch of these questions."""
    texts = [question.prompt + question.worked_answer for question in questions]
    encoded = make_tokenizer()(texts, return_tensors="pt", padding=True, padding_side="right")
    places = torch.zeros(len(KINDS), len(texts), encoded["input_ids"].shape[1] - 1, dtype=torch.bool)
    for row, question in enumerate(questions):
        found = worked_places(question)
        # Both numbers of a sum are looked for from where its last digit is due: one kind of place.
        for kind, which in zip(places, (found.copies, found.marks, found.left_units), strict=True):
            kind[row, [i for i, _ in which]] = True
    return WorkedTexts(encoded["input_ids"], encoded["attention_mask"], places)


def held_out_texts(count: int, seed: int) -> WorkedTexts:
    """Worked answers to sums that no training draws."""
    return worked_texts(sample_questions(count, torch.Generator().manual_seed(seed), held_out=True))


class Scores(NamedTuple):
    """By kind and text ``[kinds, texts]``, means over the places of that kind in it.

    Attributes:
        losses: nats.
        right: the share of places at which the true token is the most likely one.
    """

    losses: Tensor
    right: Tensor


@torch.no_grad()
def digit_scores(model: PreTrainedModel, texts: WorkedTexts) -> Scores:
    """How well a model says what comes next at each kind of place, given the right text up to there."""
    logits = model(input_ids=texts.input_ids, attention_mask=texts.attention_mask).logits[:, :-1]
    targets = texts.input_ids[:, 1:]
    losses = F.cross_entropy(logits.mT, targets, reduction="none")
    right = (logits.argmax(dim=-1) == targets).float()
    counts = texts.places.sum(dim=-1)
    return Scores(*((values * texts.places).sum(dim=-1) / counts for values in (losses, right)))


def guesses(texts: WorkedTexts) -> tuple[list[float], list[float]]:
    """By kind, the loss of guessing by how often each token stands there, and how often the commonest one is right."""
    losses, right = [], []
    for kind in texts.places:
        tokens = texts.input_ids[:, 1:][kind]
        share = tokens.bincount() / len(tokens)
        losses.append(-(share * share.log()).nansum().item())
        right.append(share.max().item())
    return losses, right


def _projection(model: PreTrainedModel, layer: int) -> torch.nn.Linear:
    """The map whose input is the outputs of a layer's heads, side by side."""
    return model.model.layers[layer - 1].self_attn.o_proj


def mean_outputs(model: PreTrainedModel, texts: WorkedTexts, layer: int) -> Tensor:
    """What the heads of a layer give on average over all places of the texts, ``[heads · size]``."""
    seen: list[Tensor] = []
    handle = _projection(model, layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    digit_scores(model, texts)
    handle.remove()
    return seen[0][texts.attention_mask == 1].mean(dim=0)


@contextmanager
def switched_off(model: PreTrainedModel, layer: int, heads: Collection[int], stand_in: Tensor) -> Iterator[None]:
    """Within the block these heads give the stand-in at every place, whatever they see; layer and heads count from 1.

    That takes the model off what it was trained on: no text gives a head the same output at every place.

    Args:
        stand_in: ``[heads · size]``: zeros, or `mean_outputs`.
    """
    off = torch.zeros(HEADS, len(stand_in) // HEADS, dtype=torch.bool)
    off[[head - 1 for head in heads]] = True
    hidden = off.flatten()
    handle = _projection(model, layer).register_forward_pre_hook(
        lambda _, inputs: (torch.where(hidden, stand_in, inputs[0]),)
    )
    try:
        yield
    finally:
        handle.remove()
