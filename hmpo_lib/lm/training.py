"""The RL loop, top to bottom: sample groups of completions, score them, step with a chosen mean of the ratios.

One rollout is sampled, split into ``minibatches`` (groups stay whole) and passed over ``epochs`` times. With 1 × 1
every step is on-policy, every ratio is 1, and the mean cannot matter; later minibatches are stale. With a
``policy_lag`` an older policy samples, and so every step is.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.advantages import group_advantages
from hmpo_lib.kl import kl_penalty
from hmpo_lib.lm.checkpoints import Checkpoints, load_checkpoint
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.faults import fault_in, offending_row, require_finite
from hmpo_lib.lm.logprobs import token_logprobs
from hmpo_lib.lm.model import check_special_tokens
from hmpo_lib.lm.records import StepRecord, rollout_metrics
from hmpo_lib.lm.rollouts import Rollout, sample_completions
from hmpo_lib.lm.state import TrainingState
from hmpo_lib.lm.tasks import Task, reward_correct, sample_prompts
from hmpo_lib.lm.unsupported_models import attention_cache, require_causal_reading, require_eval
from hmpo_lib.losses import policy_loss
from hmpo_lib.optim import QKClip


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: FineTuneConfig,
    *,
    sample_prompts: Callable[[int, torch.Generator], list[str]] = sample_prompts,
    reward_fn: Callable[[str, str], float] = reward_correct,
    checkpoints: Checkpoints | None = None,
    resume_from: Path | None = None,
) -> Iterator[StepRecord]:
    """Fine-tunes ``model`` in place; a generator that yields one record per optimizer step.

    Args:
        model: a causal language model in eval mode, with float32 weights.
        tokenizer: its tokenizer.
        config: method, sizes, optimizer and seed. The same seed gives the same run on the same machine.
        sample_prompts: (count, generator) -> prompts; default: sums.
        reward_fn: (prompt, completion) -> reward; default: 1 for the right number. A truncated completion earns
            nothing above 0, whatever it says.
        checkpoints: where to keep the run's state; None: nowhere.
        resume_from: a checkpoint, such as ``checkpoints.latest()``; later ones are removed. (One of another folder
            than that of ``checkpoints`` begins a copy of the run there.) With everything else as it
            was given before, on the same machine with as many threads, the run goes on from there, bit for bit as if
            it had never stopped.

    Raises:
        ValueError: what model, optimizer and config cannot do together; weights that are not float32; too few prompts;
            a checkpoint that is damaged or of another run.
        FileExistsError: ``checkpoints`` has those of an earlier run, and there is no ``resume_from``.
        OSError: a checkpoint could not be written.
        FloatingPointError: a reward, log-probability, loss or gradient that is not finite. The weights are those
            before the step.
    """
    if checkpoints is not None and not (resume_from and checkpoints.holds(resume_from)):
        checkpoints.require_empty()
    require_eval(model)
    check_special_tokens(tokenizer)
    attention_cache(model)
    state = TrainingState.start(model, config)
    try:
        require_causal_reading(model, tokenizer)
        if resume_from is not None:
            load_checkpoint(resume_from, state, config)
        if checkpoints is not None:
            checkpoints.tidy(state.rollouts_done)
    except BaseException:
        state.release()
        raise
    # What cannot work has been said by now, at the call; the rest happens as the records are asked for.
    records = _run(state, tokenizer, config, Task(sample_prompts, reward_fn), checkpoints)
    next(records)  # into its `try`: a generator that was never started would not run its `finally`
    return records


def _run(
    state: TrainingState,
    tokenizer: PreTrainedTokenizerBase,
    config: FineTuneConfig,
    task: Task,
    checkpoints: Checkpoints | None,
) -> Iterator[Any]:
    try:
        yield None
        while state.rollouts_done < config.rollouts:
            yield from _one_rollout(state, tokenizer, config, task)
            state.rollouts_done += 1
            if checkpoints is not None and checkpoints.due(state.rollouts_done, config.rollouts):
                checkpoints.save(state, config)
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} {checkpoints.last_whole()}" if checkpoints else str(error)) from error
    finally:
        state.release()


class _Surrogate(NamedTuple):
    """The loss of one minibatch and what is recorded of it, detached.

    Attributes:
        loss: a scalar to call ``backward()`` on.
        metrics: plain numbers (docs/metrics.md).
        log_ratios: ``[minibatch, time]``, before clipping; 0 where masked.
        p: the exponent of the step, a number or ``[minibatch]``.
    """

    loss: Tensor
    metrics: dict[str, float]
    log_ratios: Tensor
    p: float | Tensor


def _one_rollout(
    state: TrainingState, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig, task: Task
) -> Iterator[StepRecord]:
    seconds, resumed = 0.0, time.perf_counter()  # the consumer's own time, between two records, does not count
    prompts = task.sample_prompts(config.prompts, state.prompt_generator)
    if len(prompts) != config.prompts:
        raise ValueError(f"sample_prompts gave {len(prompts)} prompts: expected the {config.prompts} asked for.")
    sampler = state.sampler()
    with config.autocast(state.model.device):
        rollout = sample_completions(
            sampler,
            tokenizer,
            prompts,
            group_size=config.group_size,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            generator=state.token_generator,
        )
    require_finite(rollout, prompts, state.rollouts_done)
    rewards = _score(prompts, rollout, config.group_size, task, state.rollouts_done)
    advantages = group_advantages(rewards, config.group_size, scale=state.method.advantage_scale)
    summary = rollout_metrics(rollout, rewards, advantages, config.group_size)
    minibatches = list(_minibatches(config, state.prompt_generator))
    rollouts = [rollout] * config.epochs
    if config.dtype == "bfloat16":
        groupings = zip(*[iter(minibatches)] * config.minibatches, strict=True)
        rollouts = [_recompute_logprobs(sampler, rollout, grouping, config) for grouping in groupings]
    state.remember()
    for step, rows in enumerate(minibatches):
        part = rollouts[step // config.minibatches].select(rows.to(state.model.device))
        part_advantages = advantages[rows].to(state.model.device)
        asked = [prompts[row // config.group_size] for row in rows.tolist()]
        result, metrics, max_logits = _optimizer_step(state, part, part_advantages, config, step, asked)
        seconds += time.perf_counter() - resumed
        yield StepRecord(
            rollout=state.rollouts_done,
            step=step,
            metrics={"seconds": seconds, **summary, **metrics},
            log_ratios=result.log_ratios.cpu(),
            completion_mask=part.completion_mask.cpu(),
            advantages=part_advantages.cpu(),
            p=result.p,
            prompts=prompts,
            texts=rollout.texts,
            rewards=rewards,
            rows=rows,
            max_logits=max_logits,
        )
        resumed = time.perf_counter()


def _score(prompts: list[str], rollout: Rollout, group_size: int, task: Task, index: int) -> Tensor:
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    pairs = list(zip(repeated, rollout.texts, strict=True))
    rewards = torch.tensor([float(task.reward_fn(*pair)) for pair in pairs])
    # Not 0 for all of them: where answers earn less than 0, never to end one would be the best answer.
    rewards = torch.where(rollout.truncated.cpu(), rewards.clamp(max=0), rewards)
    is_finite = rewards.isfinite()
    if not bool(is_finite.all()):
        first = int(is_finite.int().argmin())
        raise FloatingPointError(
            f"reward_fn gave {rewards[first].item()} for {pairs[first]} at rollout {index}, before its first step: "
            "expected finite rewards."
        )
    return rewards


def _minibatches(config: FineTuneConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices of each step: the groups in a fresh random order each epoch, split as evenly as possible."""
    rows = torch.arange(config.prompts * config.group_size).view(config.prompts, config.group_size)
    for _ in range(config.epochs):
        order = torch.randperm(config.prompts, generator=generator)
        for groups in order.tensor_split(config.minibatches):
            yield rows[groups].flatten()


@torch.no_grad()
def _recompute_logprobs(
    model: PreTrainedModel, rollout: Rollout, minibatches: Sequence[Tensor], config: FineTuneConfig
) -> Rollout:
    """The rollout with the log-probs of a plain forward pass over each minibatch in place of the sampler's.

    In bfloat16 the two differ by rounding (the sampler reads a cache, token by token), and ratios of 0.98 would be
    taken for a policy that has moved. Over the same rows the passes are the same, and the first ratios are exactly 1.
    ``model`` is the sampler: where it lags behind the policy, so do these log-probs.
    """
    logprobs = torch.zeros_like(rollout.logprobs)
    for rows in minibatches:
        rows = rows.to(model.device)
        with config.autocast(model.device):
            logprobs[rows] = token_logprobs(model, rollout.select(rows), temperature=config.temperature)
    return rollout._replace(logprobs=logprobs)


def _optimizer_step(
    state: TrainingState, part: Rollout, advantages: Tensor, config: FineTuneConfig, step: int, prompts: list[str]
) -> tuple[_Surrogate, dict[str, float], dict[str, Tensor]]:
    """One step on a minibatch: what it minimized, its metrics, and the attention logits it saw."""
    state.set_learning_rates(state.rollouts_done * config.steps_per_rollout + step, config.warmup_steps)
    # Before, since the caller's own backward() may have left gradients behind; in weights that are frozen by now, too.
    state.model.zero_grad()
    state.optimizer.zero_grad()
    if state.monitor is not None:
        state.monitor.reset()  # and the caller's own forward pass logits
    # Enabled here, not around the loop: a generator must not leave the caller's gradient mode changed.
    with torch.enable_grad():
        result = _surrogate_loss(state, part, advantages, config)
        result.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    logits = {} if state.monitor is None else {k: v.cpu() for k, v in state.monitor.max_logits().items()}
    if fault := fault_in(result.log_ratios, result.loss, norm, state, logits):

        def loss_of(rows: Tensor) -> Tensor:
            return _surrogate_loss(state, part.select(rows), advantages[rows], config).loss

        row = offending_row(result.log_ratios, state, loss_of)
        raise FloatingPointError(
            f"{fault} at rollout {state.rollouts_done}, step {step}; the offending completion is {part.texts[row]!r}, "
            f"to the prompt {prompts[row]!r}: lower the learning rate, or bound the ratios of negative advantages with "
            "the objective's ratio_cap."
        )
    state.optimizer.step()
    metrics = {**result.metrics, "loss": float(result.loss.detach()), "gradient_norm": float(norm)}
    if logits:
        metrics["max_logit"] = max(float(heads.max()) for heads in logits.values())
    if isinstance(state.optimizer, QKClip):
        metrics["heads_clipped"] = state.optimizer.history[-1].heads_clipped
    return result, metrics, logits


def _surrogate_loss(state: TrainingState, part: Rollout, advantages: Tensor, config: FineTuneConfig) -> _Surrogate:
    """The policy loss of a minibatch under the state's model, with its KL penalty if there is one.

    Args:
        state: where the run stands.
        part: the minibatch.
        advantages: ``[minibatch]``.
        config: temperature, KL penalty and type of the arithmetic.
    """
    mask = part.completion_mask
    with config.autocast(state.model.device):
        logprobs = token_logprobs(state.model, part, temperature=config.temperature)
    log_ratios = (logprobs - part.logprobs).detach()
    progress = state.rollouts_done / max(1, config.rollouts - 1)
    objective = state.method.step_objective(progress, log_ratios, mask, advantages)
    loss, metrics = policy_loss(logprobs, part.logprobs, advantages, mask, objective, metrics=True)
    p = torch.as_tensor(objective.p).detach()
    metrics["p"] = p.float().mean()
    if state.reference is not None:
        with torch.no_grad(), config.autocast(state.model.device):
            ref_logprobs = token_logprobs(state.reference, part, temperature=config.temperature)
        penalty = kl_penalty(
            logprobs,
            ref_logprobs,
            mask,
            estimator=config.kl_estimator,
            old_logprobs=part.logprobs,
            length_weight=objective.length_weight,
            max_length=objective.max_length,
        )
        loss = loss + config.kl_coefficient * penalty
        metrics["kl_ref"] = (logprobs.detach() - ref_logprobs)[mask].mean()
    numbers = {name: float(value) for name, value in metrics.items()}
    return _Surrogate(loss, numbers, log_ratios, p.cpu() if p.dim() else p.item())
