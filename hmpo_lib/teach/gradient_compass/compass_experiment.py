"""Where the whole model's gradient points for every exponent, on one rollout: its direction and length beside p = 0's.

No clip, so that the exponent alone is what differs. The loss reaches the weights through the log-probabilities only, so
one forward pass serves all exponents, and each takes one backward pass.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.lm import Rollout, token_logprobs
from hmpo_lib.losses import policy_loss
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.recordings import load_tables, recording_path
from hmpo_lib.teach.shared import exponents

RECORDED = recording_path("gradient_compass.safetensors")

STAGES = ("start of training", "after 40 rollouts")
STALENESS = (0, 1, 3, 7, 15)  # optimizer steps since sampling
SMALL = 0.1  # the exponents ±0.1 are near enough to 0 for the slope there
EXPONENTS = tuple(sorted((*exponents.EXPONENTS, -SMALL, SMALL)))


class Compass(NamedTuple):
    """What the exponents do to one gradient.

    Attributes:
        cosines: ``[exponents]``, with the gradient of p = 0.
        norms: ``[exponents]``, Euclidean, over that of p = 0.
        differences: ``[exponents]``, ‖g(p) − g(0)‖ / ‖g(0)‖.
        logprob_differences: ``[exponents]``, the same of the gradient by the log-probabilities of the tokens.
        spread: standard deviation of the tokens' log-ratios.
    """

    cosines: Tensor
    norms: Tensor
    differences: Tensor
    logprob_differences: Tensor
    spread: Tensor


def gradient_compass(
    model: PreTrainedModel, rollout: Rollout, advantages: Tensor, exponents: Sequence[float]
) -> Compass:
    """The gradients of the unclipped policy loss by all of the model's weights, compared with that of p = 0.

    g(p) = Σ_i,t (∂ loss_p / ∂ logprob_it) · ∇ logprob_it, with the first factor from `policy_loss`.

    Args:
        model: the policy as it is now.
        rollout: what an older one sampled.
        advantages: ``[batch]``.
        exponents: of the power mean.

    Raises:
        ValueError: all advantages are 0, so that there is no gradient to compare with.
    """
    if not bool(advantages.any()):
        raise ValueError(
            "all advantages are 0: expected a rollout with a group of unequal rewards; sample another one."
        )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.enable_grad():
        logprobs = token_logprobs(model, rollout)
        leaf = logprobs.detach().requires_grad_()

        def gradients(p: float) -> tuple[Tensor, Tensor]:
            loss = policy_loss(leaf, rollout.logprobs, advantages, rollout.completion_mask, Objective(p)).loss
            (by_logprob,) = torch.autograd.grad(loss, leaf)
            by_weight = torch.autograd.grad(logprobs, weights, by_logprob, retain_graph=True)
            # Summed in float64: cosines of 0.43 million float32 products come out above 1.
            return by_logprob.flatten().double(), torch.cat([part.flatten() for part in by_weight]).double()

        reference = gradients(0.0)
        rows = []
        for p in exponents:
            logprob_gradient, gradient = gradients(p)
            rows.append(
                (
                    torch.cosine_similarity(gradient, reference[1], dim=0),
                    gradient.norm() / reference[1].norm(),
                    (gradient - reference[1]).norm() / reference[1].norm(),
                    (logprob_gradient - reference[0]).norm() / reference[0].norm(),
                )
            )
    cosines, norms, differences, by_logprob = (torch.stack(column) for column in zip(*rows, strict=True))
    spread = (leaf.detach() - rollout.logprobs)[rollout.completion_mask].double().std()
    return Compass(cosines, norms, differences, by_logprob, spread)


def load_compass(path: str | Path = RECORDED) -> Compass:
    """The repository's recording, or another file that tools/record_compass.py wrote.

    Returns:
        A Compass with dimensions before: ``[stages, staleness, seeds]``, and ``exponents`` after them.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_compass().cosines.shape
    torch.Size([2, 5, 5, 11])
    """
    return load_tables(Compass, path)


def change_rates(compass: Compass, *, by_logprob: bool = False) -> Tensor:
    """How fast the gradient changes with p near 0, ``[stages, staleness, seeds]``: ‖g(p) − g(0)‖ / (‖g(0)‖ |p| std(d)).

    The mean of p = ±0.1. By log-probability it is 1 to first order where completions are alike in length and spread;
    by weight it says how much more the weights depend on the tokens whose ratios move. Meaningless at staleness 0.
    """
    return _rates(compass.logprob_differences if by_logprob else compass.differences, compass.spread)


def turning_rates(compass: Compass) -> Tensor:
    """How fast the gradient by weight turns with p near 0: `change_rates` of its part at right angles to g(0).

    That part is ‖g(p)‖ sin θ / ‖g(0)‖, where cos θ is the cosine; the rest is a change of length.
    """
    return _rates(compass.norms * (1 - compass.cosines.square()).clamp(min=0).sqrt(), compass.spread)


def _rates(changes: Tensor, spread: Tensor) -> Tensor:
    small = changes[..., [EXPONENTS.index(-SMALL), EXPONENTS.index(SMALL)]].mean(dim=-1)
    return small / (SMALL * spread)
