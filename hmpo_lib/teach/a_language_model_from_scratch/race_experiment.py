"""Training the tiny Llama from scratch with Muon or with AdamW: all else the same."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.lm.model import make_model, make_tokenizer
from hmpo_lib.lm.pretrain import WORKED_SHARE, pretrain, pretraining_batch
from hmpo_lib.optim import MuonAdamW

BATCH = 32  # texts a step
STEPS = 160  # of a run; the schedule, 20 steps of warm-up and a cosine to 0, is made for this many
STEPS_PER_RECORD = 10
RECORDS = STEPS // STEPS_PER_RECORD
WEIGHT_DECAY = 0.01
EVALUATION_TEXTS = 64
EVALUATION_SEED = 999  # of the held-out texts, the same for all runs


class Setting(NamedTuple):
    """What is tuned.

    Attributes:
        optimizer: "Muon" or "AdamW".
        rate: of Muon ("original" factor), or of AdamW.
        detail: with Muon the learning rate of the AdamW beside it, which moves embeddings and norms; with AdamW its β₂.
    """

    optimizer: str
    rate: float
    detail: float


class RaceRecord(NamedTuple):
    """Ten optimizer steps.

    Attributes:
        step: how many steps have been made.
        loss: nats per token, mean over the batches, each seen for the first time.
        held_out_loss: nats per token after these steps, on 64 texts whose sums no run trains on.
    """

    step: int
    loss: float
    held_out_loss: float


def race_optimizer(model: PreTrainedModel, setting: Setting) -> torch.optim.Optimizer:
    """The optimizer of a setting; it moves all the model's weights.

    Raises:
        ValueError: neither Muon nor AdamW.
    """
    if setting.optimizer == "Muon":
        return MuonAdamW(
            model, setting.rate, adamw_lr=setting.detail, adjust_lr_fn="original", weight_decay=WEIGHT_DECAY
        )
    if setting.optimizer == "AdamW":
        betas = (0.9, setting.detail)
        return torch.optim.AdamW(model.parameters(), setting.rate, betas=betas, weight_decay=WEIGHT_DECAY)
    raise ValueError(f"the optimizer is {setting.optimizer!r}: expected 'Muon' or 'AdamW'.")


def race(
    setting: Setting, *, seed: int, steps: int = STEPS, records: int | None = None, model: PreTrainedModel | None = None
) -> Iterator[RaceRecord]:
    """Trains a new tiny Llama on sums; yields a record after each 10 steps.

    Args:
        setting: optimizer and learning rate.
        seed: of the first weights and of the texts.
        steps: for which the schedule is made.
        records: end after so many, in the midst of the schedule; default: when the steps are through.
        model: trained in place, for whoever wants it afterwards; default: ``make_model(seed)``.
    """
    tokenizer = make_tokenizer()
    model = make_model(seed) if model is None else model
    held_out = held_out_batch()
    optimizer = race_optimizer(model, setting)
    losses: list[float] = []
    for made in pretrain(model, tokenizer, steps=steps, batch_size=BATCH, seed=seed, optimizer=optimizer):
        losses.append(made["loss"])
        if len(losses) % STEPS_PER_RECORD == 0:
            recent = losses[-STEPS_PER_RECORD:]
            yield RaceRecord(len(losses), sum(recent) / len(recent), held_out_loss(model, held_out))
            if records is not None and len(losses) == records * STEPS_PER_RECORD:
                return


def held_out_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels ``[64, time]`` of texts whose sums are kept out of all training."""
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    return pretraining_batch(make_tokenizer(), EVALUATION_TEXTS, generator, held_out=True)


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, batch: tuple[Tensor, Tensor, Tensor]) -> float:
    """Nats per token of a batch of `held_out_batch`'s form; the model has no dropout, so its mode does not matter."""
    input_ids, attention_mask, labels = batch
    loss: float = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss.item()
    return loss


def least_loss(batch: tuple[Tensor, Tensor, Tensor]) -> float:
    """Nats per token of a model that adds without error and knows how the texts are drawn: none does better on average.

    A text's own information is that of its number of terms, of each term, and of whether the work is shown:

        log 3 + n log 20 − log 0.4 (or 0.6),  summed over the texts, over the number of predicted tokens.

    Left aside: a tenth of all sums is held out, which is worth a tenth of a nat a text.

    Args:
        batch: ids, mask and labels of `pretraining_batch`.
    """
    input_ids, attention_mask, _ = batch
    texts = make_tokenizer().batch_decode(input_ids, skip_special_tokens=True)
    nats = 0.0
    for text in texts:
        terms = text.partition("=")[0].count("+") + 1
        nats += math.log(3) + terms * math.log(20) - math.log(WORKED_SHARE if "(" in text else 1 - WORKED_SHARE)
    return nats / int(attention_mask[:, 1:].sum())
