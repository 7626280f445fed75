"""Learning curves on sequence bandits, for many seeds at once, with the same chances for every method.

The seeds are a leading dimension of one tensor program. Each has its own generator, and no operation mixes them, so
a seed's curve is the same, bit by bit, whatever runs beside it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.bandits import SequenceBandit, completion_mask, length_weights, sequence_logprobs
from hmpo_lib.losses import policy_surrogates
from hmpo_lib.methods import Method
from hmpo_lib.schedules import LearnableExponent


class LearningCurves(NamedTuple):
    """What `learn` measured.

    Attributes:
        expected_reward: ``[methods, seeds, steps + 1]``, exact, of the policy before the first and after each step.
        log_ratio_spread: ``[methods, seeds, steps]``, standard deviation of the tokens' log-ratios that a step saw.
        logits: ``[methods, seeds, T, C, K]``, of the last policy.
    """

    expected_reward: Tensor
    log_ratio_spread: Tensor
    logits: Tensor


def learn(
    bandit: SequenceBandit,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int],
    steps: int = 300,
    batch: int = 64,
    minibatches: int = 1,
    learning_rate: float | Tensor = 1.0,
    start_logits: Tensor | None = None,
    advantages_fn: Callable[[Tensor], Tensor] | None = None,
) -> LearningCurves:
    """Train a policy by plain gradient ascent on each method's surrogate, for each seed.

    Args:
        bandit: the world.
        methods: by any names; advantages are normalized over a rollout's sequences, as each method scales them.
        seeds: of the sampling; all methods see the same random numbers.
        steps: optimizer steps.
        batch: sequences a step.
        minibatches: steps per rollout, which has ``batch * minibatches`` sequences: the staleness is 0 to this less 1.
        learning_rate: of the logits, a number or one a seed ``[seeds]``; the surrogate's gradient is divided by the
            batch only.
        start_logits: ``[T, C, K]``; default: all tokens alike, C = 1.
        advantages_fn: rewards of each rollout ``[seeds, sequences]`` -> advantages; default: as each method scales
            them.

    Raises:
        ValueError: nothing to do, a method whose p is learned, or learning rates for another number of seeds.
    """
    if not seeds or min(steps, batch, minibatches) < 1:
        raise ValueError(
            f"{len(seeds)} seeds, {steps} steps, batch {batch}, {minibatches} minibatches: expected at least 1 of each."
        )
    learned = [name for name, method in methods.items() if isinstance(method.p_schedule, LearnableExponent)]
    if learned:
        raise ValueError(
            f"{learned[0]} learns its p: expected a p that is given or solved for; fine_tune can learn one."
        )
    rates = torch.as_tensor(learning_rate, dtype=torch.float32).view(-1, 1, 1, 1)
    if len(rates) not in (1, len(seeds)):
        raise ValueError(f"{len(rates)} learning rates for {len(seeds)} seeds: expected a number, or one a seed.")
    start = (torch.zeros(bandit.length, 1, bandit.tokens) if start_logits is None else start_logits).float()
    logits = {name: start.expand(len(seeds), *start.shape).clone() for name in methods}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    table = reward_table(bandit)
    rewards = {name: [exact_rewards(table, logits[name])] for name in methods}
    spreads: dict[str, list[Tensor]] = {name: [] for name in methods}
    for step in range(steps):
        if step % minibatches == 0:
            uniforms = _uniforms(generators, batch * minibatches, bandit)
            rollouts = {
                name: _sample(bandit, advantages_fn or method_advantages(method), logits[name], uniforms)
                for name, method in methods.items()
            }
        part = slice((step % minibatches) * batch, (step % minibatches + 1) * batch)
        for name, method in methods.items():
            gradient, spread = _gradient(bandit, method, logits[name], rollouts[name], part, step / max(1, steps - 1))
            logits[name] = logits[name] + rates * gradient
            spreads[name].append(spread)
            rewards[name].append(exact_rewards(table, logits[name]))
    return LearningCurves(
        torch.stack([torch.stack(curve, dim=1) for curve in rewards.values()]),
        torch.stack([torch.stack(spread, dim=1) for spread in spreads.values()]),
        torch.stack(list(logits.values())),
    )


def sampled_gradients(
    bandit: SequenceBandit,
    method: Method,
    logits: Tensor,
    old_logits: Tensor,
    *,
    seeds: Sequence[int],
    batch: int = 64,
) -> Tensor:
    """The gradient of a method's surrogate from one sampled batch a seed, ``[seeds, T, C, K]``: Monte Carlo.

    For what `gradient_statistics` cannot sum up: advantages normalized within the batch. Their mean over seeds has a
    standard error of std / √seeds.

    Args:
        bandit: the world.
        method: its advantages are normalized over the batch as it says.
        logits: ``[T, C, K]``, of the policy being trained.
        old_logits: ``[T, C, K]``, of the policy that samples.
        seeds: one batch each.
        batch: sequences.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    uniforms = _uniforms(generators, batch, bandit)
    old, new = (policy.float().expand(len(seeds), *policy.shape) for policy in (old_logits, logits))
    return _gradient(bandit, method, new, _sample(bandit, method_advantages(method), old, uniforms), slice(None), 0.0)[
        0
    ]


def _uniforms(generators: Sequence[torch.Generator], count: int, bandit: SequenceBandit) -> Tensor:
    """Random numbers for the choices and the risk of ``count`` sequences a seed, ``[seeds, count, T + 1]``."""
    size = (count, bandit.length + 1)
    # Of one kind whatever torch's default is: a seed means the same numbers in every program.
    return torch.stack([torch.rand(size, generator=own, dtype=torch.float32) for own in generators])


class _Rollout(NamedTuple):
    sequences: Tensor  # [seeds, sequences, T]
    mask: Tensor
    old_logprobs: Tensor
    advantages: Tensor  # [seeds, sequences]


def method_advantages(method: Method) -> Callable[[Tensor], Tensor]:
    """What a method makes of the rewards of rollouts ``[seeds, sequences]``: each rollout is one group."""

    def advantages(rewards: Tensor) -> Tensor:
        return method.advantages(rewards.flatten(), rewards.shape[1]).view_as(rewards)

    return advantages


def _sample(
    bandit: SequenceBandit, advantages_fn: Callable[[Tensor], Tensor], logits: Tensor, uniforms: Tensor
) -> _Rollout:
    sequences = sample_sequences(bandit, logits, uniforms[..., :-1])
    rewards = draw_rewards(bandit, sequences, uniforms[..., -1]).float()
    mask = completion_mask(sequences, bandit.tokens - 1 if bandit.ends else None)
    return _Rollout(sequences, mask, sequence_logprobs(logits, sequences), advantages_fn(rewards))


def sample_sequences(bandit: SequenceBandit, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Sequences ``[..., N, T]`` from a policy ``[..., T, C, K]`` and uniform numbers ``[..., N, T]``."""
    thresholds = logits.softmax(-1).cumsum(-1)[..., :-1]
    chosen: list[Tensor] = []
    contexts = logits.shape[-2]
    for t in range(bandit.length):
        row = chosen[-1] if chosen and contexts > 1 else torch.zeros(uniforms.shape[:-1], dtype=torch.long)
        places = row.unsqueeze(-1).expand(*row.shape, bandit.tokens - 1)
        own = thresholds[..., t, :, :].gather(-2, places)
        token = (uniforms[..., t].unsqueeze(-1) > own).sum(-1)
        if bandit.ends and chosen:
            token = torch.where(chosen[-1] == bandit.tokens - 1, bandit.tokens - 1, token)
        chosen.append(token)
    return torch.stack(chosen, dim=-1)


def draw_rewards(bandit: SequenceBandit, sequences: Tensor, uniforms: Tensor) -> Tensor:
    """What each sequence ``[..., N, T]`` earns: its reward, or the disaster where ``uniforms`` is below its risk."""
    powers = bandit.tokens ** torch.arange(bandit.length - 1, -1, -1)
    rows = bandit.rows[(sequences * powers).sum(-1)]
    return torch.where(uniforms < bandit.risk[rows], bandit.disaster, bandit.rewards[rows])


def reward_table(bandit: SequenceBandit) -> Tensor:
    """Expected rewards of all K^T sequences; what follows an end changes nothing."""
    return bandit.expected_rewards.float()[bandit.rows]


def exact_rewards(table: Tensor, logits: Tensor) -> Tensor:
    """E_π[R] of many policies ``[seeds, T, C, K]`` at once, ``[seeds]``: the last choice is averaged out first.

    Args:
        table: from `reward_table`.
    """
    values = table.expand(len(logits), -1)
    for probabilities in logits.softmax(-1).flip(1).unbind(1):  # [seeds, C, K], from the last choice to the first
        contexts, tokens = probabilities.shape[-2:]
        if values.shape[1] == tokens:  # the first choice
            return (values * probabilities[:, 0]).sum(-1)
        values = values.view(len(logits), -1, contexts, tokens)
        # Token by token: more than twice as fast as a sum over a last dimension this short.
        terms = zip(values.unbind(-1), probabilities.unsqueeze(1).unbind(-1), strict=True)
        values = functools.reduce(torch.add, (value * probability for value, probability in terms)).flatten(1)
    raise AssertionError("a policy has at least one choice")


def _gradient(
    bandit: SequenceBandit, method: Method, logits: Tensor, rollout: _Rollout, part: slice, progress: float
) -> tuple[Tensor, Tensor]:
    """Each seed's gradient of the mean of its surrogates, and the spread of the log-ratios it saw."""
    sequences, mask, old_logprobs, advantages = (tensor[:, part] for tensor in rollout)
    seeds, size = advantages.shape
    leaf = logits.detach().requires_grad_()
    logprobs = sequence_logprobs(leaf, sequences)
    log_ratios = torch.where(mask, logprobs.detach() - old_logprobs, 0.0)
    flat = [tensor.flatten(0, 1) for tensor in (logprobs, old_logprobs, advantages, mask)]
    objective = method.step_objective(progress, log_ratios.flatten(0, 1), flat[3], flat[2])
    lengths = mask.sum(-1).float()
    weights = length_weights(objective, lengths, lengths.mean(dim=1, keepdim=True), bandit.length)
    surrogates = weights * policy_surrogates(flat[0], flat[1], flat[2], flat[3], objective).view(seeds, size)
    (gradient,) = torch.autograd.grad(surrogates.sum() / size, leaf)
    count = mask.sum(dim=(1, 2))
    mean = log_ratios.sum(dim=(1, 2)) / count
    spread = (((log_ratios - mean.view(-1, 1, 1)) * mask).square().sum(dim=(1, 2)) / count).sqrt()
    return gradient, spread
