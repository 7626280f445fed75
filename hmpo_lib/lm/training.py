"""The RL loop: sample groups, score them, and take clipped policy-gradient steps with a chosen mean of the ratios.

One rollout is sampled, split into ``minibatches`` (groups stay whole) and passed over ``epochs`` times. With 1 × 1
every step is on-policy, every ratio is 1, and the mean cannot matter; later minibatches are stale.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.advantages import group_advantages
from hmpo_lib.kl import Estimator, kl_penalty
from hmpo_lib.lm.records import StepRecord
from hmpo_lib.lm.rollouts import Rollout, sample_completions, token_logprobs
from hmpo_lib.lm.tasks import reward_correct, sample_prompts
from hmpo_lib.losses import policy_loss
from hmpo_lib.methods import METHODS, Method
from hmpo_lib.schedules import LearnableExponent


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
        kl_coefficient: of a penalty on KL(new ‖ ref), with the model as it was at the start for the reference.
        kl_estimator: of `kl_penalty`; k2 has the gradient of KL(new ‖ ref) on-policy, k1 has none.
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
    kl_coefficient: float = 0.0
    kl_estimator: Estimator = "k2"
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
        if not self.kl_coefficient >= 0:
            raise ValueError(f"kl_coefficient is {self.kl_coefficient}: expected 0 or more.")
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

    Raises:
        ValueError: a reward that is not finite, or too few prompts.
        FloatingPointError: a gradient that is not finite.
    """
    method = config.resolved_method()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    if isinstance(method.p_schedule, LearnableExponent):
        optimizer.add_param_group({"params": method.p_schedule.parameters(), "lr": method.p_schedule.learning_rate})
    reference = copy.deepcopy(model).requires_grad_(False) if config.kl_coefficient else None
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
                loss, metrics, log_ratios, p = _surrogate_loss(
                    model, reference, part, part_advantages, method, index / max(1, config.rollouts - 1), config
                )
                loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
            if not norm.isfinite():
                raise FloatingPointError(
                    f"the gradient's norm is {norm.item()} at rollout {index}, step {step}: lower the learning rate, "
                    "or bound the ratios of negative advantages with the objective's ratio_cap."
                )
            optimizer.step()
            yield StepRecord(
                rollout=index,
                step=step,
                metrics={
                    "seconds": time.perf_counter() - started,
                    **summary,
                    **metrics,
                    "loss": float(loss.detach()),
                    "gradient_norm": float(norm),
                },
                log_ratios=log_ratios.cpu(),
                completion_mask=part.completion_mask.cpu(),
                advantages=part_advantages.cpu(),
                p=p,
                prompts=prompts,
                texts=rollout.texts,
                rewards=rewards,
            )


def _score(prompts: list[str], rollout: Rollout, group_size: int, reward_fn: Callable[[str, str], float]) -> Tensor:
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    pairs = list(zip(repeated, rollout.texts, strict=True))
    rewards = torch.tensor([float(reward_fn(*pair)) for pair in pairs]).masked_fill(rollout.truncated.cpu(), 0.0)
    is_finite = rewards.isfinite()
    if not bool(is_finite.all()):
        first = int(is_finite.int().argmin())
        raise ValueError(f"reward_fn gave {rewards[first].item()} for {pairs[first]}: expected finite rewards.")
    return rewards


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


def _surrogate_loss(
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    part: Rollout,
    advantages: Tensor,
    method: Method,
    progress: float,
    config: FineTuneConfig,
) -> tuple[Tensor, dict[str, float], Tensor, float | Tensor]:
    """The loss of one minibatch, its metrics, the detached log-ratios, and the step's p."""
    mask = part.completion_mask
    logprobs = token_logprobs(model, part, temperature=config.temperature)
    log_ratios = (logprobs - part.logprobs).detach()
    objective = method.objective
    if method.p_schedule is not None:
        objective = dataclasses.replace(objective, p=method.p_schedule(progress, log_ratios, mask, advantages))
    loss, metrics = policy_loss(logprobs, part.logprobs, advantages, mask, objective)
    p = torch.as_tensor(objective.p).detach()
    metrics["p"] = p.float().mean()
    if reference is not None:
        with torch.no_grad():
            ref_logprobs = token_logprobs(reference, part, temperature=config.temperature)
        penalty = kl_penalty(
            logprobs,
            ref_logprobs,
            mask,
            estimator=config.kl_estimator,
            length_weight=objective.length_weight,
            max_length=objective.max_length,
        )
        loss = loss + config.kl_coefficient * penalty
        metrics["kl_ref"] = (logprobs.detach() - ref_logprobs)[mask].mean()
    numbers = {name: float(value) for name, value in metrics.items()}
    return loss, numbers, log_ratios, p.cpu() if p.dim() else p.item()
