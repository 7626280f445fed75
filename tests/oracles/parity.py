"""What the reference programs and the library are both asked, and what a wrong library would answer.

No reference program is imported here: `trl_losses.py` and `verl_losses.py` do that, inside their functions.
"""

import dataclasses
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hmpo_lib import Objective, policy_loss

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
LONGEST = 200  # tokens
# Where a clip leaves ratios alone, at its edges, after a large step, and as far as two policies are ever compared.
SPREADS = {"on policy": 0.0, "hardly moved": 1e-3, "a step": 0.3, "a large step": 1.0, "as far as e^20": 20.0}


class Batch(NamedTuple):
    """The tensors of `policy_loss`, in its order."""

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    completion_mask: Tensor


class Answer(NamedTuple):
    """A loss, and its gradient by the log-probabilities, ``[batch, time]``."""

    loss: Tensor
    gradient: Tensor


class Case(NamedTuple):
    """One loss of a reference program, and the cell of the cube that it should be."""

    loss: Callable[[Batch, Objective], Tensor]
    objective: Objective


def needs(program: str) -> pytest.MarkDecorator:
    """Skips without the pinned version: these tests call a program's inner functions, which other versions change."""
    pins = dict(line.split("==") for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if "==" in line)
    try:
        installed = version(program)
    except PackageNotFoundError:
        installed = "none"
    reason = f"needs {program} {pins[program]} (found {installed}): run `make oracles`"
    return pytest.mark.skipif(installed != pins[program], reason=reason)


def random_batch(seed: int, spread: float, *, completions: int = 6, longest: int = LONGEST) -> Batch:
    """Completions of 1 to ``longest`` tokens with gaps, log-ratios in [−spread, spread], one advantage of zero.

    Masked places hold ordinary numbers, so that a program that looked at them would be found out.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    lengths = torch.randint(1, longest + 1, (completions,), generator=generator)
    lengths[0] = 1
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    mask[:, 1:] &= uniform(completions, longest - 1) > 0.1  # such as the answers of a tool inside a completion
    mask[1] = True  # as long as can be
    advantages = 4 * uniform(completions) - 2
    advantages[2] = 0.0
    old = -5 * uniform(completions, longest)
    return Batch(old + spread * (2 * uniform(completions, longest) - 1), old, advantages, mask.long())


def with_empty_completion(batch: Batch, advantage: float) -> Batch:
    """One more completion, without tokens: such as one that was cut off and masked out."""
    row = [torch.cat([tensor, tensor[:1]]) for tensor in batch]
    row[2][-1], row[3][-1] = advantage, 0
    return Batch(*row)


def with_padding(batch: Batch, value: float) -> Batch:
    """The value in both policies' log-probabilities wherever the mask is 0: −inf is what a masked logit leaves."""
    kept = batch.completion_mask.bool()
    return batch._replace(
        logprobs=torch.where(kept, batch.logprobs, value), old_logprobs=torch.where(kept, batch.old_logprobs, value)
    )


def batches(seeds: int = 20) -> list[Batch]:
    """Some random batches of each spread."""
    return [random_batch(seed, spread) for spread in SPREADS.values() for seed in range(seeds)]


def answer(loss: Callable[[Batch, Objective], Tensor], batch: Batch, objective: Objective) -> Answer:
    """A loss and its gradient, in the batch's own precision."""
    logprobs = batch.logprobs.clone().requires_grad_()
    value = loss(batch._replace(logprobs=logprobs), objective)
    value.backward()
    assert logprobs.grad is not None
    return Answer(value.detach(), logprobs.grad)


def our_loss(batch: Batch, objective: Objective) -> Tensor:
    """The library's loss, with the signature of a reference program's."""
    return policy_loss(*batch, objective).loss


def assert_same(ours: Answer, theirs: Answer) -> None:
    """Equal to 1e-9 of each number itself, so that the largest gradients do not hide the smallest; zeros are zeros."""
    torch.testing.assert_close(tuple(ours), tuple(theirs), rtol=1e-9, atol=0.0)


def largest_difference(ours: Answer, theirs: Answer) -> Answer:
    """The largest relative difference of the loss and of any entry of the gradient; zeros must be zeros (else inf)."""

    def relative(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(a == b, 0.0, (a - b).abs() / b.abs()).max()

    return Answer(relative(ours.loss, theirs.loss), relative(ours.gradient, theirs.gradient))


def _other_weight(objective: Objective) -> Objective:
    weight = "proportional" if objective.length_weight == "equal" else "equal"
    return dataclasses.replace(objective, length_weight=weight, max_length=None)


WRONG_VARIANTS: dict[str, Callable[[Batch, Objective], Tensor]] = {
    "flipped sign": lambda batch, objective: our_loss(batch._replace(advantages=-batch.advantages), objective),
    # The ratio old / new, with its gradient: one that is given as the old policy has none.
    "swapped policies": lambda batch, objective: our_loss(
        batch._replace(logprobs=2 * batch.old_logprobs - batch.logprobs), objective
    ),
    "shifted mask": lambda batch, objective: our_loss(
        batch._replace(completion_mask=batch.completion_mask.roll(1, dims=1)), objective
    ),
    "another length weight": lambda batch, objective: our_loss(batch, _other_weight(objective)),
    "another exponent": lambda batch, objective: our_loss(batch, dataclasses.replace(objective, p=-1.0)),
    "no clip": lambda batch, objective: our_loss(batch, dataclasses.replace(objective, clip=None, clip_range=None)),
}
