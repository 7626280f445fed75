"""The RL loop: sample groups, score them, and take clipped policy-gradient steps with a chosen mean of the ratios.

One rollout is sampled, split into ``minibatches`` (groups stay whole) and passed over ``epochs`` times. With 1 × 1
every step is on-policy, every ratio is 1, and the mean cannot matter; later minibatches are stale.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.advantages import group_advantages
from hmpo_lib.lm.rollouts import Rollout, sample_completions, token_logprobs
from hmpo_lib.lm.tasks import reward_correct, sample_prompts
from hmpo_lib.losses import Objective, policy_loss
from hmpo_lib.methods import METHODS, Method


@dataclasses.dataclass(frozen=True)
class FineTuneConfig:
    """What `fine_tune` needs to know besides the model and the task.

    Attributes:
        method: a name in METHODS, or a Method of your own.
        rollouts: how many times to sample and learn.
        prompts: prompts per rollout.
        group_size: completions per prompt.
        minibatches: optimizer steps per pass over a rollout; at most ``prompts``.
        epochs: passes over a rollout.
        max_new_tokens: limit per completion, eos included.
        learning_rate: of AdamW.
        temperature: of sampling, and of every log-probability.
        max_gradient_norm: the gradient is scaled down to this norm.
        seed: of prompts, sampling and minibatches.
    """

    method: str | Method = "gspo"
    rollouts: int = 50
    prompts: int = 32
    group_size: int = 8
    minibatches: int = 1
    epochs: int = 1
    max_new_tokens: int = 40
    learning_rate: float = 1e-4
    temperature: float = 1.0
    max_gradient_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.method, str) and self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}: expected one of {', '.join(METHODS)}.")
        for name in ("rollouts", "prompts", "group_size", "minibatches", "epochs", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a whole number from 1.")
        for name in ("learning_rate", "temperature", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a number above 0.")
        if self.minibatches > self.prompts:
            raise ValueError(
                f"minibatches is {self.minibatches} with prompts {self.prompts}: groups stay whole, so expected at "
                "most one minibatch a prompt."
            )

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole run."""
        return self.rollouts * self.epochs * self.minibatches

    def resolved_method(self) -> Method:
        """The Method, with its length weight's ``max_length`` set to ``max_new_tokens`` where it has none."""
        method = METHODS[self.method] if isinstance(self.method, str) else self.method
        if method.objective.length_weight == "constant" and method.objective.max_length is None:
            objective = dataclasses.replace(method.objective, max_length=self.max_new_tokens)
            method = dataclasses.replace(method, objective=objective)
        return method


class StepRecord(NamedTuple):
    """What one optimizer step saw; all tensors are detached and on the CPU.

    Attributes:
        rollout: which rollout, from 0.
        step: which optimizer step since it was sampled, from 0: the staleness of the log-probabilities.
        metrics: plain numbers, each defined in docs/metrics.md; those of the rollout repeat on each of its steps.
        log_ratios: ``[minibatch, time]``, before clipping; 0 where masked.
        completion_mask: ``[minibatch, time]``, bool.
        advantages: ``[minibatch]``.
        p: the exponent of this step, a number or ``[minibatch]``.
        prompts: of the whole rollout, one a group.
        texts: completions of the whole rollout, groups one after the other.
        rewards: ``[batch]`` of the whole rollout.
    """

    rollout: int
    step: int
    metrics: dict[str, float]
    log_ratios: Tensor
    completion_mask: Tensor
    advantages: Tensor
    p: float | Tensor
    prompts: list[str]
    texts: list[str]
    rewards: Tensor


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: FineTuneConfig,
    *,
    sample_prompts: Callable[[int, torch.Generator], list[str]] = sample_prompts,
    reward_fn: Callable[[str, str], float] = reward_correct,
) -> Iterator[StepRecord]:
    """Fine-tunes ``model`` in place; a generator that yields one record per optimizer step.

    Args:
        model: a causal language model in eval mode.
        tokenizer: its tokenizer.
        config: method, sizes and seed. The same seed gives the same run on the same machine.
        sample_prompts: (count, generator) -> prompts; default: sums.
        reward_fn: (prompt, completion) -> reward; default: 1 for the right number. A truncated completion earns 0,
            whatever it says.
    """
    method = config.resolved_method()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    prompt_generator = torch.Generator().manual_seed(config.seed)
    token_generator = torch.Generator(model.device).manual_seed(config.seed)
    for index in range(config.rollouts):
        started = time.perf_counter()
        prompts = sample_prompts(config.prompts, prompt_generator)
        if len(prompts) != config.prompts:
            raise ValueError(f"sample_prompts gave {len(prompts)} prompts: expected the {config.prompts} asked for.")
        rollout = sample_completions(
            model,
            tokenizer,
            prompts,
            group_size=config.group_size,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            generator=token_generator,
        )
        rewards = _score(prompts, rollout, config.group_size, reward_fn)
        advantages = group_advantages(rewards, config.group_size, scale=method.advantage_scale)
        summary = _summarize(rollout, rewards, config.group_size)
        for step, rows in enumerate(_minibatches(config, prompt_generator)):
            part = rollout.select(rows.to(model.device))
            part_advantages = advantages[rows].to(model.device)
            optimizer.zero_grad()  # before, since the caller's own backward() may have left gradients behind
            # Enabled here, not around the loop: a generator must not leave the caller's gradient mode changed.
            with torch.enable_grad():
                logprobs = token_logprobs(model, part, temperature=config.temperature)
                log_ratios = (logprobs - part.logprobs).detach()
                progress = index / max(1, config.rollouts - 1)
                objective = _objective(method, progress, log_ratios, part.completion_mask, part_advantages)
                result = policy_loss(logprobs, part.logprobs, part_advantages, part.completion_mask, objective)
                result.loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
            if not norm.isfinite():
                raise FloatingPointError(
                    f"the gradient's norm is {norm.item()} at rollout {index}, step {step}: lower the learning rate, "
                    "or bound the ratios of negative advantages with the objective's ratio_cap."
                )
            optimizer.step()
            metrics = {name: float(value) for name, value in result.metrics.items()}
            yield StepRecord(
                rollout=index,
                step=step,
                metrics={
                    "seconds": time.perf_counter() - started,
                    **summary,
                    **metrics,
                    "loss": float(result.loss.detach()),
                    "gradient_norm": float(norm),
                },
                log_ratios=log_ratios.cpu(),
                completion_mask=part.completion_mask.cpu(),
                advantages=part_advantages.cpu(),
                p=objective.p,
                prompts=prompts,
                texts=rollout.texts,
                rewards=rewards,
            )


def rollout_row(records: list[StepRecord]) -> dict[str, float]:
    """The row of metrics.csv for one rollout, from the records of all its steps.

    Metrics of a step are averaged over the steps, except ``seconds`` (the last one's: the whole rollout),
    ``ratio_min`` and ``ratio_max``.
    """
    reduce: dict[str, Callable[[list[float]], float]] = {
        "seconds": lambda values: values[-1],
        "ratio_min": min,
        "ratio_max": max,
    }
    columns = {name: [record.metrics[name] for record in records] for name in records[0].metrics}
    means = {name: reduce.get(name, lambda v: sum(v) / len(v))(values) for name, values in columns.items()}
    return {"rollout": records[0].rollout, **means}


def _score(prompts: list[str], rollout: Rollout, group_size: int, reward_fn: Callable[[str, str], float]) -> Tensor:
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    rewards = [float(reward_fn(*pair)) for pair in zip(repeated, rollout.texts, strict=True)]
    return torch.tensor(rewards).masked_fill(rollout.truncated.cpu(), 0.0)


def _summarize(rollout: Rollout, rewards: Tensor, group_size: int) -> dict[str, float]:
    groups = rewards.view(-1, group_size)
    return {
        "reward_mean": float(rewards.mean()),
        "completion_length_mean": float(rollout.completion_mask.sum(dim=1).float().mean()),
        "zero_variance_fraction": float((groups.amax(dim=1) == groups.amin(dim=1)).float().mean()),
        "truncated_fraction": float(rollout.truncated.float().mean()),
    }


def _minibatches(config: FineTuneConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices of each step: the groups in a fresh random order each epoch, split as evenly as possible."""
    rows = torch.arange(config.prompts * config.group_size).view(config.prompts, config.group_size)
    for _ in range(config.epochs):
        order = torch.randperm(config.prompts, generator=generator)
        for groups in order.tensor_split(config.minibatches):
            yield rows[groups].flatten()


def _objective(
    method: Method, progress: float, log_ratios: Tensor, completion_mask: Tensor, advantages: Tensor
) -> Objective:
    if method.p_schedule is None:
        return method.objective
    p = method.p_schedule(progress, log_ratios, completion_mask, advantages)
    return dataclasses.replace(method.objective, p=p)
