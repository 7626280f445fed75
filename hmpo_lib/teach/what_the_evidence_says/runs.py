"""One run of the evidence: a cell and a seed in, a few numbers a step and a rollout out."""

import statistics
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm import StepRecord, fine_tune, load_base_model, load_model, sample_completions
from hmpo_lib.lm.tasks import is_worked, sample_questions
from hmpo_lib.teach.what_the_evidence_says.cells import TASKS, Cell

HELD_OUT, HELD_OUT_SEED = 400, 7

ROLLOUT_FIELDS = (
    "reward", "worked", "length", "truncated", "alike", "blocked", "gradient_norm", "gradient_norm_max", "ess"
)  # fmt: skip
STEP_FIELDS = ("std_good", "std_bad", "within_good", "within_bad", "mean_good", "mean_bad", "blocked", "gradient_norm")


class RolloutNumbers(NamedTuple):
    """What is kept of a rollout and its optimizer steps.

    Attributes:
        rollout: by ROLLOUT_FIELDS.
        steps: for each step the numbers of STEP_FIELDS.
    """

    rollout: tuple[float, ...]
    steps: list[tuple[float, ...]]


def take(
    cell: Cell, seed: int, *, device: str = "cpu", larger_model: Path | None = None
) -> Iterator[RolloutNumbers | tuple[float, float]]:
    """Trains the cell's model; yields the numbers of each rollout, and last (reward, entropy) on held-out prompts.

    Args:
        cell: what is run.
        seed: of the run.
        device: where.
        larger_model: the folder that tools/make_larger_model.py has made, for a cell of it.

    Raises:
        FloatingPointError: as `fine_tune`; what was yielded before stands.
        ValueError: a cell of the larger model without its folder.
    """
    if cell.model == "larger" and larger_model is None:
        raise ValueError(
            f"{cell.name} trains the larger model, which is not shipped: expected its folder as larger_model; make it "
            "with tools/make_larger_model.py."
        )
    model, tokenizer = load_base_model() if cell.model == "shipped" else load_model(str(larger_model))
    model.to(device)
    if cell.twin:
        round_once(model)
    records = fine_tune(model, tokenizer, cell.config(seed), **TASKS[cell.task]._asdict())
    for _, steps in groupby(records, key=lambda record: record.rollout):
        yield rollout_numbers(list(steps))
    yield examine(model, tokenizer, cell)


@torch.no_grad()
def round_once(model: PreTrainedModel) -> None:
    """Moves every weight to the next larger float: a change in the last bit, and in nothing that anyone would name."""
    for weight in model.parameters():
        weight.copy_(weight.nextafter(torch.tensor(torch.inf)))


def rollout_numbers(records: list[StepRecord]) -> RolloutNumbers:
    """What is kept of the steps of one rollout."""
    steps = [step_numbers(record) for record in records]
    metrics = [record.metrics for record in records]
    stale = [step[STEP_FIELDS.index("blocked")] for step in steps[1:]]
    norms = [m["gradient_norm"] for m in metrics]
    first = metrics[0]
    rollout = (
        first["reward_mean"],
        statistics.mean(map(is_worked, records[0].texts)),
        first["completion_length_mean"],
        first["truncated_fraction"],
        first["zero_variance_fraction"],
        statistics.mean(stale) if stale else 0.0,
        statistics.mean(norms),
        max(norms),
        statistics.mean(m["effective_sample_size"] for m in metrics),
    )
    return RolloutNumbers(rollout, steps)


def step_numbers(record: StepRecord) -> tuple[float, ...]:
    """Of one step, by STEP_FIELDS: the log-ratios of tokens by the sign of A, nan where there are none.

    ``std``: over the tokens; ``within``: the root of the mean over answers of the variance inside an answer.
    """
    good, bad = record.advantages > 0, record.advantages < 0
    spread = [_spread(record.log_ratios[rows], record.completion_mask[rows]) for rows in (good, bad)]
    stds, withins, means = zip(*spread, strict=True)
    return (*stds, *withins, *means, record.metrics["blocked_fraction"], record.metrics["gradient_norm"])


def _spread(log_ratios: Tensor, mask: Tensor) -> tuple[float, float, float]:
    if not len(mask):
        return (float("nan"),) * 3
    tokens = log_ratios[mask].double()
    n = mask.sum(dim=1)
    mean = (log_ratios.double() * mask).sum(dim=1) / n
    variance = ((log_ratios - mean.unsqueeze(1)).square() * mask).sum(dim=1) / n
    return float(tokens.std(correction=0)), float(variance.mean().sqrt()), float(tokens.mean())


def examine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    cell: Cell,
    *,
    count: int = HELD_OUT,
    seed: int = HELD_OUT_SEED,
) -> tuple[float, float]:
    """Mean reward on held-out prompts, one sample each, and the entropy of the tokens, nats (minus mean log-prob)."""
    generator = torch.Generator().manual_seed(seed)
    prompts = [question.prompt for question in sample_questions(count, generator, held_out=True)]
    if model.device.type != "cpu":  # on a CPU the same one goes on, as in every run that was recorded
        generator = torch.Generator(model.device).manual_seed(seed)
    sampled = sample_completions(model, tokenizer, prompts, group_size=1, max_new_tokens=40, generator=generator)
    rewards = [
        TASKS[cell.task].reward_fn(prompt, text) * (not cut)
        for prompt, text, cut in zip(prompts, sampled.texts, sampled.truncated.tolist(), strict=True)
    ]
    return statistics.mean(rewards), -float(sampled.logprobs[sampled.completion_mask].mean())
