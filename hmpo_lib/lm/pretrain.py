"""How the base model is made: supervised training on sums, 60 % answered directly and 40 % with the work shown.

Stopped early on purpose. The result knows both ways of answering and is right about half of the time, which leaves
reinforcement learning something to find out.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.tasks import sample_questions
from hmpo_lib.optim import MuonAdamW

WORKED_SHARE = 0.4


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    steps: int = 400,
    batch_size: int = 128,
    learning_rate: float = 0.02,
    seed: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
) -> Iterator[dict[str, Any]]:
    """Trains ``model`` in place; yields ``{"step", "loss"}`` (nats per token) after each optimizer step.

    Muon moves the matrices inside the blocks, AdamW the rest; both follow a cosine to 0 after a
    short warm-up. Another ``optimizer`` over the model's parameters may be given, with learning rates of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    if optimizer is None:
        optimizer = MuonAdamW(model, learning_rate, adamw_lr=3e-3, adjust_lr_fn="original", weight_decay=0.01)
    warmup = min(20, steps)

    def factor(step: int) -> float:
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        return min(1.0, (step + 1) / warmup) * decay

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    try:
        for step in range(steps):
            batch = pretraining_batch(tokenizer, batch_size, generator)
            input_ids, attention_mask, labels = (tensor.to(model.device) for tensor in batch)
            optimizer.zero_grad()  # before, since the caller may have left gradients behind
            loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            yield {"step": step, "loss": loss.item()}
    finally:
        model.eval()


def pretraining_batch(
    tokenizer: PreTrainedTokenizerBase, size: int, generator: torch.Generator, *, held_out: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels, each ``[size, time]``; labels are −100 on padding."""
    questions = sample_questions(size, generator, held_out=held_out)
    worked = torch.rand(size, generator=generator, dtype=torch.float32) < WORKED_SHARE
    answers = [q.worked_answer if w else q.direct_answer for q, w in zip(questions, worked.tolist(), strict=True)]
    texts = [q.prompt + answer + tokenizer.eos_token for q, answer in zip(questions, answers, strict=True)]
    encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, -100)
    return encoded["input_ids"], encoded["attention_mask"], labels
