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
from hmpo_lib.optim import MuonAdamW, QKClip
from hmpo_lib.optim.matrices import muon_matrices

BATCH = 16  # texts a step
STEPS_PER_RECORD = 5
WARMUP_STEPS = 20
OPTIMIZERS = ("Muon", "AdamW", "Muon, per head")
TUNED_RATES = {"Muon": 0.02, "AdamW": 0.002, "Muon, per head": 0.02}  # notebook 06 tuned the first two
REST_RATE = (
    3e-3  # of the AdamW of embeddings and norms, as in pretraining: the matrices' rate is what is made too large
)
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


def hot_optimizer(model: PreTrainedModel, optimizer: str, times: float, weight_decay: float) -> torch.optim.Optimizer:
    """Moves the matrices in the blocks at so many times their tuned rate, all else with AdamW at `REST_RATE`.

    Raises:
        ValueError: none of `OPTIMIZERS`.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"the optimizer is {optimizer!r}: expected one of {OPTIMIZERS}.")
    rate = times * TUNED_RATES[optimizer]
    if optimizer != "AdamW":
        return MuonAdamW(
            model,
            rate,
            per_head=optimizer == "Muon, per head",
            adamw_lr=REST_RATE,
            adjust_lr_fn="original",
            weight_decay=weight_decay,
        )
    matrices = list(muon_matrices(model))
    inside = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    groups = [
        {"params": matrices, "lr": rate, "weight_decay": weight_decay},
        {"params": rest, "lr": REST_RATE, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def train_hot(
    *, optimizer: str = "Muon", times: float, threshold: float, seed: int, records: int, weight_decay: float = 0.0
) -> Iterator[HotRecord]:
    """Trains a new tiny Llama on sums at a constant rate, with QK-Clip.

    Args:
        optimizer: of the matrices in the blocks, one of `OPTIMIZERS`.
        times: how many times its tuned rate.
        threshold: τ; infinite for no clip.
        seed: of the first weights and of the texts.
        records: how many times five steps.
        weight_decay: of the matrices, decoupled: a step takes this times the rate from each weight.
    """
    tokenizer, generator = make_tokenizer(), torch.Generator().manual_seed(seed)
    model = make_model(seed).train()
    probe = pretraining_batch(tokenizer, BATCH, torch.Generator().manual_seed(PROBE_SEED))
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")  # the one that hands out what its softmax gives
    inner = hot_optimizer(model, optimizer, times, weight_decay)
    clip = QKClip(inner, model, threshold=threshold)
    warmup = torch.optim.lr_scheduler.LambdaLR(inner, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
    for record in range(records):
        losses = []
        for _ in range(STEPS_PER_RECORD):
            input_ids, attention_mask, labels = pretraining_batch(tokenizer, BATCH, generator)
            loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
            loss.backward()
            clip.step()
            clip.zero_grad()
            warmup.step()
            losses.append(loss.item())
        recent = list(clip.history)[-STEPS_PER_RECORD:]
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
