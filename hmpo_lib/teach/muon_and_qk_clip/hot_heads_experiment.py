"""Training at rates that make attention logits grow, with and without QK-Clip, and how the heads look meanwhile."""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.optim import MuonClip

BATCH = 16  # texts a step
STEPS_PER_RECORD = 5
WARMUP_STEPS = 20
ADAMW_RATE = 3e-3  # of embeddings and norms, as in pretraining; Muon's rate is what is made too large
PROBE_SEED = 999  # of the 16 texts on which entropies are measured, the same for all runs


class HotRecord(NamedTuple):
    """Five optimizer steps. Heads are numbered layer by layer.

    Attributes:
        step: how many steps have been made.
        loss: nats per token, mean over the five batches, each seen for the first time.
        max_logits: ``[heads]``, S_max over the five, as the softmax saw it: before the clip of that step.
        entropies: ``[heads]``, see `attention_entropies`.
        clipped: heads clipped a step, mean over the five.
    """

    step: int
    loss: float
    max_logits: Tensor
    entropies: Tensor
    clipped: float


def train_hot(*, rate: float, threshold: float, seed: int, records: int) -> Iterator[HotRecord]:
    """Trains a new tiny Llama on sums with Muon at a constant ``rate``, no weight decay, and QK-Clip.

    Args:
        rate: of Muon, "original" factor; the shipped model was made with 0.02, falling to 0.
        threshold: τ; infinite for no clip.
        seed: of the first weights and of the texts.
        records: how many times five steps.
    """
    tokenizer, generator = make_tokenizer(), torch.Generator().manual_seed(seed)
    model = make_model(seed).train()
    probe = pretraining_batch(tokenizer, BATCH, torch.Generator().manual_seed(PROBE_SEED))
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")  # the one that hands out what its softmax gives
    optimizer = MuonClip(
        model, rate, threshold=threshold, adamw_lr=ADAMW_RATE, adjust_lr_fn="original", weight_decay=0.0
    )
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
    for record in range(records):
        losses = []
        for _ in range(STEPS_PER_RECORD):
            input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
            loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            warmup.step()
            losses.append(loss.item())
        recent = list(optimizer.history)[-STEPS_PER_RECORD:]
        twin.load_state_dict(model.state_dict())
        yield HotRecord(
            step=STEPS_PER_RECORD * (record + 1),
            loss=sum(losses) / len(losses),
            max_logits=torch.stack([torch.cat(list(step.max_logits.values())) for step in recent]).amax(dim=0),
            entropies=attention_entropies(twin, probe[0], probe[1]),
            clipped=sum(step.heads_clipped for step in recent) / len(recent),
        )


@torch.no_grad()
def attention_entropies(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """How widely each head looks around, ``[layers · heads]``: 1 for all tokens alike, 0 for a single one.

    H[h] = mean over queries i ≥ 1 of  −Σ_j a_ij log a_ij / log(i + 1),  with the attention weights a.

    Args:
        model: causal, with eager attention.
        input_ids: ``[batch, time]``, padded on the right.
        attention_mask: the same shape.
    """
    attentions = model(input_ids=input_ids, attention_mask=attention_mask, output_attentions=True).attentions
    weights = torch.stack(attentions, dim=1).flatten(1, 2)  # [batch, layers · heads, query, key]
    entropies = torch.special.entr(weights).sum(dim=-1)[..., 1:]
    most = torch.arange(2, weights.shape[-1] + 1).log()  # the first query sees itself alone
    real = attention_mask[:, None, 1:].to(weights.dtype)
    return ((entropies / most) * real).sum(dim=(0, 2)) / real.sum(dim=(0, 2))


def threshold_label(threshold: float) -> str:
    """How a reader sees τ.

    >>> threshold_label(30.0), threshold_label(math.inf)
    ('τ = 30', 'no clip')
    """
    return "no clip" if threshold == math.inf else f"τ = {threshold:g}"
