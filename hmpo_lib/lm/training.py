"""The RL loop, top to bottom: sample groups of completions, score them, step with a chosen mean of the ratios.

One rollout is sampled, split into ``minibatches`` (groups stay whole) and passed over ``epochs`` times. With 1 × 1
every step is on-policy, every ratio is 1, and the mean cannot matter; later minibatches are stale. With a
``policy_lag`` an older policy samples, and so every step is.
"""

import dataclasses
import numbers
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.kl import kl_penalty
from hmpo_lib.lm.checkpoints import Checkpoints, load_checkpoint
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.faults import fault_in, memory_advice, offending_row, require_finite
from hmpo_lib.lm.logprobs import token_logprobs
from hmpo_lib.lm.model import check_special_tokens
from hmpo_lib.lm.records import StepRecord, rollout_metrics
from hmpo_lib.lm.rollouts import Rollout, sample_completions
from hmpo_lib.lm.state import TrainingState
from hmpo_lib.lm.tasks import Task, reward_correct, sample_prompts
from hmpo_lib.lm.unsupported_models import attention_cache, require_causal_reading, require_eval, require_no_adapters
from hmpo_lib.losses import PolicyLoss, policy_loss
from hmpo_lib.objectives import Objective
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
        config: method, sizes, optimizer and seed. The same seed gives the same run on the same machine; on a GPU that
            is sure in torch's deterministic mode alone (``torch.use_deterministic_algorithms``), as is what resumes.
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
            a reward that is not one number; a checkpoint that is damaged or of another run. What ``reward_fn`` itself
            raises has a note with the prompt, the completion and the rollout.
        FileExistsError: ``checkpoints`` has those of an earlier run, and there is no ``resume_from``.
        OSError: a checkpoint could not be written.
        FloatingPointError: a reward, log-probability, loss or gradient that is not finite. The weights are those
            before the step.
    """
    if checkpoints is not None and not (resume_from and checkpoints.holds(resume_from)):
        checkpoints.require_empty()
    require_no_adapters(model)
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


class _Step(NamedTuple):
    """What one optimizer step minimized, detached.

    Attributes:
        metrics: plain numbers (docs/metrics.md).
        log_ratios: ``[minibatch, time]``, before clipping; 0 where masked.
        p: the exponent of the step, a number or ``[minibatch]``.
        max_logits: of each head, where they are watched.
    """

    metrics: dict[str, float]
    log_ratios: Tensor
    p: float | Tensor
    max_logits: dict[str, Tensor]


def _one_rollout(
    state: TrainingState, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig, task: Task
) -> Iterator[StepRecord]:
    seconds, resumed = 0.0, time.perf_counter()  # the consumer's own time, between two records, does not count
    prompts = task.sample_prompts(config.prompts, state.prompt_generator)
    if len(prompts) != config.prompts:
        raise ValueError(f"sample_prompts gave {len(prompts)} prompts: expected the {config.prompts} asked for.")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"sample_prompts gave {prompt!r} ({type(prompt).__name__}): expected strings.")
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
    advantages = state.method.advantages(rewards, config.group_size)
    summary = rollout_metrics(rollout, rewards, advantages, config.group_size)
    minibatches = list(_minibatches(config, state.prompt_generator))
    rollouts = [rollout] * config.epochs
    if config.dtype == "bfloat16":
        epochs = zip(*[iter(minibatches)] * config.minibatches, strict=True)
        passes = [[rows[part] for rows in epoch for part in _passes(rollout, rows, config)] for epoch in epochs]
        rollouts = [_recompute_logprobs(sampler, rollout, parts, config) for parts in passes]
    state.remember()
    for step, rows in enumerate(minibatches):
        part = rollouts[step // config.minibatches].select(rows.to(state.model.device))
        part_advantages = advantages[rows].to(state.model.device)
        asked = [prompts[row // config.group_size] for row in rows.tolist()]
        result = _optimizer_step(state, part, part_advantages, config, step, asked)
        seconds += time.perf_counter() - resumed
        yield StepRecord(
            rollout=state.rollouts_done,
            step=step,
            metrics={"seconds": seconds, **summary, **result.metrics},
            log_ratios=result.log_ratios.cpu(),
            completion_mask=part.completion_mask.cpu(),
            advantages=part_advantages.cpu(),
            p=result.p,
            prompts=prompts,
            texts=rollout.texts,
            rewards=rewards,
            rows=rows,
            max_logits=result.max_logits,
        )
        resumed = time.perf_counter()


def _score(prompts: list[str], rollout: Rollout, group_size: int, task: Task, index: int) -> Tensor:
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    pairs = list(zip(repeated, rollout.texts, strict=True))
    where = f"at rollout {index}, before its first step"
    rewards = torch.tensor([_reward(task, pair, where) for pair in pairs], dtype=torch.float32)
    # Not 0 for all of them: where answers earn less than 0, never to end one would be the best answer.
    rewards = torch.where(rollout.truncated.cpu(), rewards.clamp(max=0), rewards)
    is_finite = rewards.isfinite()
    if not bool(is_finite.all()):
        first = int(is_finite.int().argmin())
        raise FloatingPointError(
            f"reward_fn gave {rewards[first].item()} for {pairs[first]} {where}: expected finite rewards."
        )
    return rewards


def _reward(task: Task, pair: tuple[str, str], where: str) -> float:
    try:
        reward: Any = task.reward_fn(*pair)
    except BaseException as error:
        error.add_note(f"reward_fn raised this for {pair} {where}.")
        raise
    if getattr(reward, "ndim", None) == 0:  # a number of torch's or NumPy's
        reward = reward.item()
    if not isinstance(reward, numbers.Real):
        raise ValueError(
            f"reward_fn gave {reward!r} ({type(reward).__name__}) for {pair} {where}: expected one finite number."
        )
    return float(reward)


def _minibatches(config: FineTuneConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices of each step: the groups in a fresh random order each epoch, split as evenly as possible."""
    rows = torch.arange(config.prompts * config.group_size).view(config.prompts, config.group_size)
    for _ in range(config.epochs):
        order = torch.randperm(config.prompts, generator=generator)
        for groups in order.tensor_split(config.minibatches):
            yield rows[groups].flatten()


def _passes(rollout: Rollout, rows: Tensor, config: FineTuneConfig) -> list[Tensor]:
    """Which of a minibatch's ``rows`` go through the model together: indices into them, in order."""
    limit = config.max_tokens_per_pass
    if limit is None:
        return [torch.arange(len(rows))]
    lengths = rollout.completion_mask.sum(dim=1).cpu()[rows.cpu()]
    passes: list[list[int]] = []
    room = 0
    for group in torch.arange(len(rows)).split(config.group_size):
        fits = int(lengths[group].sum()) <= limit
        for unit in [group.tolist()] if fits else group.unsqueeze(1).tolist():
            tokens = int(lengths[unit].sum())
            if tokens > room or not passes:
                passes.append([])
                room = limit
            passes[-1] += unit
            room -= tokens
    return [torch.tensor(indices) for indices in passes]


@torch.no_grad()
def _recompute_logprobs(
    model: PreTrainedModel, rollout: Rollout, passes: Sequence[Tensor], config: FineTuneConfig
) -> Rollout:
    """The rollout with the log-probs of plain forward passes over the given rows in place of those that it has.

    In bfloat16 the two differ by rounding (the sampler reads a cache, token by token), and ratios of 0.98 would be
    taken for a policy that has moved. Over the same rows the passes are the same, and the first ratios are exactly 1.
    ``model`` is the sampler: where it lags behind the policy, so do these log-probs.
    """
    logprobs = torch.zeros_like(rollout.logprobs)
    for rows in passes:
        rows = rows.to(model.device)
        with config.autocast(model.device):
            logprobs[rows] = token_logprobs(model, rollout.select(rows), temperature=config.temperature)
    return rollout._replace(logprobs=logprobs)


def _optimizer_step(
    state: TrainingState, part: Rollout, advantages: Tensor, config: FineTuneConfig, step: int, prompts: list[str]
) -> _Step:
    """One step on a minibatch; its gradient is the sum of those of its passes."""
    state.set_learning_rates(state.rollouts_done * config.steps_per_rollout + step, config.warmup_steps)
    # Before, since the caller's own backward() may have left gradients behind; in weights that are frozen by now, too.
    state.model.zero_grad()
    state.optimizer.zero_grad()
    if state.monitor is not None:
        state.monitor.reset()  # and the caller's own forward pass logits
    passes = [rows.to(advantages.device) for rows in _passes(part, torch.arange(len(advantages)), config)]
    # New and the reference's, of the whole minibatch; without gradients.
    logprobs, ref_logprobs = torch.zeros_like(part.logprobs), torch.zeros_like(part.logprobs)
    if state.method.p_schedule is not None and len(passes) > 1:  # what it says may depend on the whole minibatch
        logprobs = _recompute_logprobs(state.model, part, passes, config).logprobs

    def pass_loss(rows: Tensor) -> Tensor:
        chosen = part.select(rows)
        with config.autocast(state.model.device):
            new = token_logprobs(state.model, chosen, temperature=config.temperature)
        logprobs[rows] = new.detach()
        if state.reference is not None:
            with torch.no_grad(), config.autocast(state.model.device):
                ref_logprobs[rows] = token_logprobs(state.reference, chosen, temperature=config.temperature)
        return _loss(state, config, part, advantages, logprobs, ref_logprobs, rows=rows, new=new).loss

    # Enabled here, not around the loop: a generator must not leave the caller's gradient mode changed.
    with torch.enable_grad(), memory_advice(config):
        for rows in passes:
            pass_loss(rows).backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.max_gradient_norm)
    max_logits = {} if state.monitor is None else {k: v.cpu() for k, v in state.monitor.max_logits().items()}
    log_ratios = logprobs - part.logprobs
    with torch.no_grad():
        loss, metrics = _loss(state, config, part, advantages, logprobs, ref_logprobs)
    if fault := fault_in(log_ratios, loss, norm, state, max_logits):
        row = offending_row(log_ratios, state, pass_loss)
        raise FloatingPointError(
            f"{fault} at rollout {state.rollouts_done}, step {step}; the offending completion is {part.texts[row]!r}, "
            f"to the prompt {prompts[row]!r}: lower the learning rate, or bound the ratios of negative advantages with "
            "the objective's ratio_cap."
        )
    p = torch.as_tensor(_objective(state, config, part, advantages, log_ratios).p).detach()
    state.optimizer.step()
    numbers = {name: float(value) for name, value in metrics.items()}
    numbers |= {"p": float(p.float().mean()), "loss": float(loss), "gradient_norm": float(norm)}
    if max_logits:
        numbers["max_logit"] = max(float(heads.max()) for heads in max_logits.values())
    if isinstance(state.optimizer, QKClip):
        numbers["heads_clipped"] = state.optimizer.history[-1].heads_clipped
    return _Step(numbers, log_ratios, p.cpu() if p.dim() else p.item(), max_logits)


def _objective(
    state: TrainingState, config: FineTuneConfig, part: Rollout, advantages: Tensor, log_ratios: Tensor
) -> Objective:
    """The objective of this step on a whole minibatch."""
    progress = state.rollouts_done / max(1, config.rollouts - 1)
    return state.method.step_objective(progress, log_ratios, part.completion_mask, advantages)


def _loss(
    state: TrainingState,
    config: FineTuneConfig,
    part: Rollout,
    advantages: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    *,
    rows: Tensor | None = None,
    new: Tensor | None = None,
) -> PolicyLoss:
    """The policy loss of a minibatch with its KL penalty, if there is one; or the part that some rows have in it.

    Args:
        state: where the run stands.
        config: of the KL penalty.
        part: the minibatch.
        advantages: ``[minibatch]``.
        logprobs: ``[minibatch, time]``, new, without gradients.
        ref_logprobs: ``[minibatch, time]``, of the reference.
        rows: indices into the minibatch; None for all of it, with metrics.
        new: ``[rows, time]``, with gradients.
    """
    objective = _objective(state, config, part, advantages, logprobs - part.logprobs)
    mask = part.completion_mask
    normalizer = mask.sum() if objective.length_weight == "proportional" else mask.any(dim=1).sum()
    old, whole = part.logprobs, rows is None or new is None
    if rows is not None and new is not None:
        if isinstance(objective.p, Tensor) and objective.p.dim():
            objective = dataclasses.replace(objective, p=objective.p[rows])
        old, advantages, mask, logprobs, ref_logprobs = old[rows], advantages[rows], mask[rows], new, ref_logprobs[rows]
    loss, metrics = policy_loss(logprobs, old, advantages, mask, objective, normalizer=normalizer, metrics=whole)
    if state.reference is not None:
        penalty = kl_penalty(
            logprobs,
            ref_logprobs,
            mask,
            estimator=config.kl_estimator,
            old_logprobs=old,
            length_weight=objective.length_weight,
            max_length=objective.max_length,
            normalizer=normalizer,
        )
        loss = loss + config.kl_coefficient * penalty
        if whole:
            metrics["kl_ref"] = (logprobs - ref_logprobs)[mask].mean()
    return PolicyLoss(loss, metrics)
