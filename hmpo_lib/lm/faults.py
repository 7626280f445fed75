"""What goes wrong in a rollout or a step, in words: what is not finite, which completion is to blame, no memory."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.rollouts import Rollout
from hmpo_lib.lm.state import TrainingState


def require_finite(rollout: Rollout, prompts: list[str], index: int) -> None:
    """Raises FloatingPointError where the sampler's log-probabilities of rollout ``index`` are not finite."""
    bad = (~rollout.logprobs.isfinite()).any(dim=1)
    if bool(bad.any()):
        row = int(bad.int().argmax())
        prompt = prompts[row * len(prompts) // len(bad)]
        raise FloatingPointError(
            f"a log-probability of the sampler's is not finite at rollout {index}, before its first step; the "
            f"offending completion is {rollout.texts[row]!r}, to the prompt {prompt!r}: lower the learning rate, or "
            "start from a model whose logits are finite."
        )


def fault_in(
    log_ratios: Tensor, loss: Tensor, norm: Tensor, state: TrainingState, max_logits: dict[str, Tensor]
) -> str | None:
    """What is not finite in a step after its ``backward()``, in words; None where all is.

    Args:
        log_ratios: ``[minibatch, time]``.
        loss: a scalar.
        norm: of the model's gradient.
        state: where the run stands.
        max_logits: the attention logits, if watched.
    """
    if not bool(log_ratios.isfinite().all()):
        return "a log-probability is not finite"
    if not bool(loss.isfinite()):
        return f"the loss is {loss.item()}"
    if not bool(norm.isfinite()):
        return f"the gradient's norm is {norm.item()}"
    theta = None if state.exponent is None else state.exponent.theta.grad
    if theta is not None and not bool(theta.isfinite()):
        return f"the gradient of the learnable exponent is {theta.item()}"
    if not all(bool((logits < math.inf).all()) for logits in max_logits.values()):
        return "an attention logit is not finite"
    return None


def offending_row(log_ratios: Tensor, state: TrainingState, loss_of: Callable[[Tensor], Tensor]) -> int:
    """The row of a minibatch whose step is not finite that is to blame.

    The first whose own log-ratios are not finite; else the one with the largest gradient when it stands alone, where
    inf and nan are larger than any number.

    Args:
        log_ratios: ``[minibatch, time]``.
        state: where the run stands; its gradients are lost.
        loss_of: the loss of the given rows alone, with a graph.
    """
    bad = (~log_ratios.isfinite()).any(dim=1)
    if bool(bad.any()):
        return int(bad.int().argmax())
    norms = []
    for row in torch.arange(len(log_ratios), device=log_ratios.device).split(1):
        state.optimizer.zero_grad()
        with torch.enable_grad():
            loss = loss_of(row)
            loss.backward()
        gradients = [weight.grad for weight in state.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norms.append((norm + loss.detach().abs() * 0).nan_to_num(nan=math.inf))
    state.optimizer.zero_grad()
    return int(torch.stack(norms).argmax())


@contextmanager
def memory_advice(config: FineTuneConfig) -> Iterator[None]:
    """Names the setting that helps where a step runs out of memory.

    Raises:
        torch.OutOfMemoryError: in place of the accelerator's own, or of the CPU's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        present = config.max_tokens_per_pass or config.prompts * config.group_size * config.max_new_tokens
        reason = str(error).splitlines()[0]
        raise torch.OutOfMemoryError(
            f"a step ran out of memory with max_tokens_per_pass {config.max_tokens_per_pass}: expected fewer "
            f"completion tokens, such as {max(1, present // 4)}; the gradient stays the same. ({reason})"
        ) from error
