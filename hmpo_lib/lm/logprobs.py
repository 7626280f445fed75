"""Log-probabilities of a rollout's tokens under a moved policy, with gradients, for no more work than they take.

- A prompt is read once for its whole group; the completions attend to the keys and values that it left.
- Completions of like length pass together, in the split that costs least: so few of the positions are padding.
- The head sees unmasked tokens only; where its logits are many, they come a block of the vocabulary at a time, and once
  more in the backward pass, so that ``[batch, time, vocabulary]`` never exists. (It does for models that change their
  head's logits, such as Gemma-2, Cohere and Granite: those are only known by calling the whole model.)

All of it is exact: values and gradients are those of one plain forward pass, to rounding.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from hmpo_lib.lm.rollouts import Rollout, attention_of_any_shape, select_rows
from hmpo_lib.lm.unsupported_models import attention_cache, prompt_inputs, require_eval, require_kept

# What a pass costs besides its positions, forward and backward, in units of one: measured on a CPU with the shipped
# model, where 32 to 64 were best; a guess elsewhere, where launching a pass costs more and a position less.
_PASS_COST = {"cpu": 64.0}
_PASS_COST_ELSEWHERE = 4096.0
# Logits that exist at a time: on a CPU so many that they fit its cache, elsewhere so many that a GPU is busy.
_BLOCK_ELEMENTS = {"cpu": 2**20}
_BLOCK_ELEMENTS_ELSEWHERE = 2**26

# model -> (id of its head, whether body and head are all of it).
_IS_ALL: WeakKeyDictionary[PreTrainedModel, tuple[int, bool]] = WeakKeyDictionary()

Body = Callable[..., Tensor]  # (keep, **inputs of the model) -> features [rows, keep, width] of the last positions


class TokenStatistics(NamedTuple):
    """What a policy says of a rollout's tokens.

    Attributes:
        logprobs: ``[batch, time]``, nats, of each token; 0 where masked.
        entropy: ``[batch, time]``, nats, of the distribution over the token's place; 0 where masked.
    """

    logprobs: Tensor
    entropy: Tensor


def token_logprobs(model: PreTrainedModel, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of a rollout's completion tokens under ``model``, with gradients.

    A monitor of attention logits sees the (query, key) pairs that these depend on, and no other: the last token of a
    completion, which nothing follows, is neither query nor key.

    Args:
        model: the policy, in eval mode.
        rollout: what was sampled.
        temperature: the one it was sampled with.

    Returns:
        ``[batch, time]``, nats; 0 where masked.

    Raises:
        ValueError: a model in training mode or without an attention cache.
    """
    return _statistics(model, rollout, temperature, with_entropy=False)[0]


def token_statistics(model: PreTrainedModel, rollout: Rollout, *, temperature: float = 1.0) -> TokenStatistics:
    """As `token_logprobs`, and the entropy  −Σ_v p_v log p_v  at each token; both with gradients.

    Args:
        model: the policy, in eval mode.
        rollout: what was sampled.
        temperature: the one it was sampled with; the entropy is at this temperature too.
    """
    return TokenStatistics(*_statistics(model, rollout, temperature, with_entropy=True))


def _statistics(model: PreTrainedModel, rollout: Rollout, temperature: float, *, with_entropy: bool) -> list[Tensor]:
    require_eval(model)
    with attention_of_any_shape(model.device):
        body, head = _body_and_head(model, rollout.prompt_ids[:1, -2:])
        features, places = _token_features(body, model, rollout)
    targets = rollout.completion_ids.flatten()[places]
    values = head_statistics(features, head, targets, temperature=temperature, with_entropy=with_entropy)
    shape = rollout.completion_ids.shape
    return [x.new_zeros(shape).flatten().scatter(0, places, x).view(shape) for x in values]


def _body_and_head(model: PreTrainedModel, probe: Tensor) -> tuple[Body, nn.Module]:
    """The model without its head, and the head; or the whole model, and nothing, if that is not all of it.

    Some models scale or cap the head's logits (Gemma-2, Cohere, Granite) or put a layer before it. They are told by
    their own logits of two tokens: the same operations give the same bits. Asked once for each model and head.
    """
    head = model.get_output_embeddings()

    def body(keep: int, **inputs: Any) -> Tensor:
        return model.base_model(**inputs).last_hidden_state[:, -keep:]

    def whole(keep: int, **inputs: Any) -> Tensor:
        return model(**inputs, logits_to_keep=keep).logits

    if head is None or model.base_model is model:
        return whole, nn.Identity()
    known = _IS_ALL.get(model)
    if known is None or known[0] != id(head):
        count = probe.shape[1]
        with torch.no_grad():
            apart = head(body(count, input_ids=probe, use_cache=False))
            known = id(head), torch.equal(apart, whole(count, input_ids=probe, use_cache=False))
        _IS_ALL[model] = known
    return (body, head) if known[1] else (whole, nn.Identity())


def _token_features(body: Body, model: PreTrainedModel, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Features ``[tokens, width]`` that predict the unmasked tokens, and where these stand in the flattened batch."""
    lengths = rollout.completion_mask.sum(dim=1)
    places = torch.arange(rollout.completion_mask.numel(), device=lengths.device).view_as(rollout.completion_mask)
    prompts = torch.stack([rollout.prompt_ids, rollout.prompt_mask.long()])
    prompts, group = prompts.unique(dim=1, return_inverse=True)
    prompt_mask = prompts[1].bool()
    start = int(prompt_mask.any(dim=0).int().argmax())  # what is padding in every row goes
    prompt_ids, prompt_mask = prompts[0, :, start:], prompt_mask[:, start:]
    prompt_lengths = prompt_mask.sum(dim=1)
    cache = attention_cache(model)
    after_prompt = body(1, **prompt_inputs(prompt_ids, prompt_mask, cache))
    require_kept(cache, prompt_ids.shape[1], model)
    some = lengths > 0
    features, at = [after_prompt[:, 0].index_select(0, group[some])], [places[some, 0]]
    for rows in _of_like_length(lengths - 1):
        width = int(lengths[rows[0]]) - 1
        columns = torch.arange(width, device=lengths.device)
        real = columns < lengths[rows, None] - 1
        # Padding repeats the row's last query and is no key: so it adds no (query, key) pair of its own.
        columns = columns.minimum(lengths[rows, None] - 2)
        outputs = body(
            width,
            input_ids=rollout.completion_ids[rows].gather(1, columns),
            attention_mask=torch.cat([prompt_mask[group[rows]], real], dim=1).long(),
            position_ids=prompt_lengths[group[rows], None] + columns,
            past_key_values=select_rows(cache, group[rows]),
            use_cache=True,
        )
        kept = real.flatten().nonzero().squeeze(1)  # index_select: the gradient of a boolean mask is a slow scatter
        features.append(outputs.flatten(0, 1).index_select(0, kept))
        at.append(places[rows, 1 : width + 1].flatten()[kept])
    return torch.cat(features), torch.cat(at)


def _of_like_length(lengths: Tensor) -> Iterator[Tensor]:
    """The rows of length 1 and more, the longest first, in the parts whose passes cost least in all."""
    values, order = lengths.sort(descending=True, stable=True)
    values = values[values > 0]
    each, counts = values.unique_consecutive(return_counts=True)
    sizes = _cheapest_split(each.tolist(), counts.tolist(), _PASS_COST.get(lengths.device.type, _PASS_COST_ELSEWHERE))
    yield from order[: len(values)].split(sizes)


def _cheapest_split(widths: list[int], counts: list[int], pass_cost: float) -> list[int]:
    """Sizes of the consecutive parts with the least  Σ_parts (pass_cost + rows · the part's first, largest width).

    Args:
        widths: falling.
        counts: rows of each width.
        pass_cost: of a part, besides its positions and in units of one.

    >>> _cheapest_split([40, 39, 3], [10, 10, 100], pass_cost=64)
    [20, 100]
    """
    width = torch.tensor(widths, dtype=torch.float64)
    rows = torch.tensor([0, *counts]).cumsum(0)
    least, cut = torch.zeros(len(widths) + 1, dtype=torch.float64), [0] * (len(widths) + 1)
    for stop in range(1, len(widths) + 1):
        costs = least[:stop] + pass_cost + (rows[stop] - rows[:stop]) * width[:stop]
        cut[stop] = int(costs.argmin())
        least[stop] = costs[cut[stop]]
    sizes, stop = [], len(widths)
    while stop > 0:
        sizes.append(int(rows[stop] - rows[cut[stop]]))
        stop = cut[stop]
    return sizes[::-1]


# --- the head ---------------------------------------------------------------------------------------------------------


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
