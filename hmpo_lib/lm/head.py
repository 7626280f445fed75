"""Log-probabilities and entropies from a language model's head, without all of its logits at a time."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Logits that exist at a time: on a CPU so many that they fit its cache, elsewhere so many that a GPU is busy.
_BLOCK_ELEMENTS = {"cpu": 2**20}
_BLOCK_ELEMENTS_ELSEWHERE = 2**26


def head_statistics(
    features: Tensor, head: nn.Module, targets: Tensor, *, temperature: float, with_entropy: bool
) -> tuple[Tensor, ...]:
    """The targets' log-probabilities and, if asked for, the entropies; with gradients.

    Args:
        features: ``[tokens, width]``.
        head: makes ``[tokens, vocabulary]`` logits of them.
        targets: ``[tokens]``, the token ids.
        temperature: divides the logits.
        with_entropy: whether the entropy is wanted.

    Returns:
        ``[tokens]``, nats; one or two of them.
    """
    many = isinstance(head, nn.Linear) and len(features) * head.out_features > _block_elements(features)
    # What else a head may be (quantized, with an adapter) is only known by calling it.
    if many and type(head) is nn.Linear:
        inputs = [features, head.weight, head.bias]
        if torch.is_autocast_enabled(features.device.type):
            dtype = torch.get_autocast_dtype(features.device.type)
            inputs = [None if x is None else x.to(dtype) for x in inputs]
        return _Blockwise.apply(*inputs, targets, temperature, with_entropy)
    logits = _widened(head(features)) / temperature
    distribution = logits.log_softmax(dim=-1)
    logprobs = distribution.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (logprobs, -(distribution.exp() * distribution).sum(dim=-1)) if with_entropy else (logprobs,)


def _widened(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _block_elements(features: Tensor) -> int:
    return _BLOCK_ELEMENTS.get(features.device.type, _BLOCK_ELEMENTS_ELSEWHERE)


class _Blockwise(torch.autograd.Function):
    """log p(target) and entropy of  p = softmax((W x + b) / T), a block of the vocabulary at a time.

    With the logits l and  z = log Σ_v exp l_v :  H = z − Σ_v p_v l_v ,  and the gradients are
    ∂log p_y/∂l_v = 1[v = y] − p_v ,  ∂H/∂l_v = −p_v (log p_v + H) .
    Blocks of the vocabulary rather than of tokens: each part of W and of its gradient is then touched once a pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        with_entropy: bool,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.temperature = temperature
        logsumexps, means = [], []
        chosen = torch.zeros_like(targets, dtype=torch.promote_types(features.dtype, torch.float32))
        for start, logits in _blocks(features, weight, bias, temperature):
            column = (targets - start).clamp(0, logits.shape[1] - 1)
            here = (targets >= start) & (targets < start + logits.shape[1])
            picked = logits.gather(1, column.unsqueeze(1)).squeeze(1)
            chosen = torch.where(here, picked, chosen)
            logsumexps.append(logits.logsumexp(dim=1))
            if with_entropy:
                means.append((logits.softmax(dim=1) * logits).sum(dim=1))
        each = torch.stack(logsumexps)
        logsumexp = each.logsumexp(dim=0)
        outputs = [chosen - logsumexp]
        if with_entropy:
            outputs.append(logsumexp - ((each - logsumexp).exp() * torch.stack(means)).sum(dim=0))
        ctx.save_for_backward(features, weight, bias, targets, logsumexp, *outputs[1:])
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        features, weight, bias, targets, logsumexp, *entropy = ctx.saved_tensors
        of_logprob = torch.zeros_like(logsumexp) if gradients[0] is None else gradients[0]
        of_entropy = gradients[1] if entropy else None
        to_features = torch.zeros_like(features, dtype=logsumexp.dtype)
        to_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        to_bias = None if bias is None else torch.empty_like(bias)
        for start, logits in _blocks(features, weight, bias, ctx.temperature):
            stop = start + logits.shape[1]
            log_p = logits.sub_(logsumexp.unsqueeze(1))
            factor = -of_logprob.unsqueeze(1)
            if of_entropy is not None:
                factor = factor - of_entropy.unsqueeze(1) * (log_p + entropy[0].unsqueeze(1))
            to_logits = log_p.exp_().mul_(factor)
            rows = ((targets >= start) & (targets < stop)).nonzero().squeeze(1)
            to_logits[rows, targets[rows] - start] += of_logprob[rows]
            to_logits = to_logits.div_(ctx.temperature).to(weight.dtype)
            to_features += to_logits @ weight[start:stop]
            if to_weight is not None:
                torch.mm(to_logits.T, features, out=to_weight[start:stop])
            if to_bias is not None:
                to_bias[start:stop] = to_logits.sum(dim=0)
        return to_features.to(features.dtype), to_weight, to_bias, None, None, None


def _blocks(features: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Iterator[tuple[int, Tensor]]:
    """Where each block of the vocabulary starts, and its logits ``[tokens, block]``."""
    size = max(1, _block_elements(features) // len(features))
    for start in range(0, len(weight), size):
        part = slice(start, start + size)
        logits = F.linear(features, weight[part], None if bias is None else bias[part])
        yield start, _widened(logits).div_(temperature)
