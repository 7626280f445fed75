"""prime-rl's custom loss, which ``[trainer.loss]`` names: the power mean of one sequence's ratios.

prime-rl calls a loss with one sequence, adds the losses up over all ranks, and divides the sum by the step's trainable
tokens. Written against its source of August 2026 (commit 559b447); not run inside it.
"""

from typing import Any

import torch
from torch import Tensor

from hmpo_lib import Objective, policy_loss
from hmpo_lib.objectives import Clip, LengthWeight

try:
    from prime_rl.trainer.rl.loss import LossOutputs
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"hmpo_lib.integrations.prime_rl needs prime-rl ({error}): install it from its repository, with its own uv; it "
        "is in no package index.",
        name=error.name,
    ) from error


def power_mean_loss(
    inputs: Any,
    *,
    p: float,
    clip: Clip | None = None,
    clip_range: tuple[float, float] | None = None,
    ratio_cap: float | None = None,
    length_weight: LengthWeight = "proportional",
    scale: float | None = None,
) -> Any:
    """The loss of one sequence, −scale · w A M_p(r), of which prime-rl makes Σ_i loss_i / N with N the step's tokens.

    "proportional", w = n_i: exact, Σ_i n_i A_i M_p / N. The other two weights have denominators that prime-rl does not
    tell a loss: "constant" is Σ_i n_i A_i M_p / (B · max_length) with B completions, the same but for a factor, and
    "equal" Σ_i A_i M_p / B. Both come out right up to a factor that is one for the whole step and differs from step to
    step: N / B, the mean length. ``scale`` fixes its size: give 1 / max_length · (the mean length that you expect) for
    "constant", and the mean length that you expect for "equal".

    Args:
        inputs: prime-rl's LossInputs: ``trainer_logprobs``, ``inference_logprobs``, ``advantages``, ``loss_mask`` and
            ``loss_weights`` (or None), all ``[time]``. Advantages and weights are one number for the sequence.
        p, clip, clip_range, ratio_cap, length_weight: see `Objective`.
        scale: multiplies the loss; default 1. "equal" wants it said.

    Returns:
        prime-rl's LossOutputs. Without a trainable token the loss is 0, with a graph.

    Raises:
        ValueError: advantages or weights that differ within the sequence; "equal" without ``scale``; see `Objective`.
    """
    if length_weight == "equal" and scale is None:
        raise ValueError(
            'length_weight is "equal" and scale is None: prime-rl divides by the tokens of the step, which a loss of '
            'one sequence is not told, so that "equal" cannot be had exactly; expected "proportional", or a scale '
            "(the mean number of tokens of a completion) if a factor that differs from step to step will do."
        )
    objective = Objective(p, clip, None if clip_range is None else (clip_range[0], clip_range[1]), ratio_cap=ratio_cap)
    mask = inputs.loss_mask.bool()
    weight = _constant("advantages", inputs.advantages, mask)
    if inputs.loss_weights is not None:
        weight = weight * _constant("loss_weights", inputs.loss_weights, mask)
    factor = (1.0 if scale is None else scale) * (1 if length_weight == "equal" else mask.sum())
    loss, metrics = policy_loss(
        inputs.trainer_logprobs.unsqueeze(0),
        inputs.inference_logprobs.unsqueeze(0),
        weight.unsqueeze(0),
        mask.unsqueeze(0),
        objective,
        normalizer=1.0,
        metrics=True,
    )
    # Of no tokens prime-rl's own metrics are 0, too: a nan would spoil the mean over sequences.
    numbers = {
        f"hmpo/{name}": value if bool(mask.any()) else torch.zeros_like(value) for name, value in metrics.items()
    }
    return LossOutputs(loss=loss * factor, metrics=numbers)


def _constant(name: str, values: Tensor, mask: Tensor) -> Tensor:
    """The one number of a sequence; 0 without tokens."""
    seen = values[mask]
    if not bool((seen == seen[:1]).all()):
        raise ValueError(
            f"{name} differ within a sequence, from {seen.min().item()} to {seen.max().item()}: expected one number, "
            'since a mean over its tokens is weighed as a whole (algorithm "grpo").'
        )
    return seen[0] if len(seen) else torch.zeros((), dtype=values.dtype, device=values.device)
