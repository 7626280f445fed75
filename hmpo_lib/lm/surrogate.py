"""What one optimizer step minimizes, and which completion is to blame where it is not finite."""

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.kl import kl_penalty
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.logprobs import token_logprobs
from hmpo_lib.lm.rollouts import Rollout
from hmpo_lib.lm.state import TrainingState
from hmpo_lib.losses import policy_loss


class Surrogate(NamedTuple):
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


def surrogate_loss(state: TrainingState, part: Rollout, advantages: Tensor, config: FineTuneConfig) -> Surrogate:
    """The policy loss of a minibatch under the state's model, with its KL penalty if there is one.

    Args:
        state: where the run stands.
        part: the minibatch.
        advantages: ``[minibatch]``.
        config: temperature, KL penalty and type of the arithmetic.
    """
    mask, objective = part.completion_mask, state.method.objective
    with config.autocast(state.model.device):
        logprobs = token_logprobs(state.model, part, temperature=config.temperature)
    log_ratios = (logprobs - part.logprobs).detach()
    if state.method.p_schedule is not None:
        progress = state.rollouts_done / max(1, config.rollouts - 1)
        objective = dataclasses.replace(objective, p=state.method.p_schedule(progress, log_ratios, mask, advantages))
    loss, metrics = policy_loss(logprobs, part.logprobs, advantages, mask, objective)
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
            length_weight=objective.length_weight,
            max_length=objective.max_length,
        )
        loss = loss + config.kl_coefficient * penalty
        metrics["kl_ref"] = (logprobs.detach() - ref_logprobs)[mask].mean()
    numbers = {name: float(value) for name, value in metrics.items()}
    return Surrogate(loss, numbers, log_ratios, p.cpu() if p.dim() else p.item())


def fault_in(result: Surrogate, norm: Tensor, state: TrainingState, max_logits: dict[str, Tensor]) -> str | None:
    """What is not finite in a step after its ``backward()``, in words; None where all is.

    Args:
        result: of `surrogate_loss`.
        norm: of the model's gradient.
        state: where the run stands.
        max_logits: the attention logits, if watched.
    """
    if not bool(result.log_ratios.isfinite().all()):
        return "a log-probability is not finite"
    if not bool(result.loss.isfinite()):
        return f"the loss is {result.loss.item()}"
    if not bool(norm.isfinite()):
        return f"the gradient's norm is {norm.item()}"
    theta = None if state.exponent is None else state.exponent.theta.grad
    if theta is not None and not bool(theta.isfinite()):
        return f"the gradient of the learnable exponent is {theta.item()}"
    if not all(bool((logits < math.inf).all()) for logits in max_logits.values()):
        return "an attention logit is not finite"
    return None


def offending_row(
    state: TrainingState, part: Rollout, advantages: Tensor, result: Surrogate, config: FineTuneConfig
) -> int:
    """The row of a minibatch whose step is not finite that is to blame.

    The first whose own log-ratios are not finite; else the one with the largest gradient when it stands alone, where
    inf and nan are larger than any number.
    """
    bad = (~result.log_ratios.isfinite()).any(dim=1)
    if bool(bad.any()):
        return int(bad.int().argmax())
    norms = []
    for row in torch.arange(len(advantages), device=advantages.device).split(1):
        state.optimizer.zero_grad()
        with torch.enable_grad():
            loss = surrogate_loss(state, part.select(row), advantages[row], config).loss
            loss.backward()
        gradients = [weight.grad for weight in state.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norms.append((norm + loss.detach().abs() * 0).nan_to_num(nan=math.inf))
    state.optimizer.zero_grad()
    return int(torch.stack(norms).argmax())
