"""Log-probabilities of a rollout's tokens under a moved policy, with gradients, for no more work than they take.

- A prompt is read once for its whole group; the completions attend to the keys and values that it left.
- Completions of like length pass together, so that few of the positions are padding.
- The head sees unmasked tokens only; where its logits are many, they come a block of the vocabulary at a time, and once
  more in the backward pass, so that ``[batch, time, vocabulary]`` never exists. (It does for models that change their
  head's logits, such as Gemma-2, Cohere and Granite: those are only known by calling the whole model.)

All of it is exact: values and gradients are those of one plain forward pass, to rounding.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hmpo_lib.lm.head import head_statistics
from hmpo_lib.lm.requirements import attention_cache, prompt_inputs, require_eval, require_kept
from hmpo_lib.lm.rollouts import Rollout, select_rows

# A completion of less than this part of the longest one's length waits for the next pass.
_LIKE_LENGTH = 0.5

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
    body, head = _body_and_head(model, rollout.prompt_ids[:1, -2:])
    features, places = _token_features(body, model, rollout)
    targets = rollout.completion_ids.flatten()[places]
    values = head_statistics(features, head, targets, temperature=temperature, with_entropy=with_entropy)
    shape = rollout.completion_ids.shape
    return [x.new_zeros(shape).flatten().scatter(0, places, x).view(shape) for x in values]


def _body_and_head(model: PreTrainedModel, probe: Tensor) -> tuple[Body, nn.Module]:
    """The model without its head, and the head; or the whole model, and nothing, if that is not all of it.

    Some models scale or cap the head's logits (Gemma-2, Cohere, Granite) or put a layer before it. They are told by
    their own logits of two tokens: the same operations give the same bits.
    """
    head = model.get_output_embeddings()

    def body(keep: int, **inputs: Any) -> Tensor:
        return model.base_model(**inputs).last_hidden_state[:, -keep:]

    def whole(keep: int, **inputs: Any) -> Tensor:
        return model(**inputs, logits_to_keep=keep).logits

    with torch.no_grad():
        count = probe.shape[1]
        if (
            head is not None
            and model.base_model is not model
            and torch.equal(
                head(body(count, input_ids=probe, use_cache=False)), whole(count, input_ids=probe, use_cache=False)
            )
        ):
            return body, head
    return whole, nn.Identity()


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
    """The rows of length 1 and more, the longest first, a part at a time of those that are of like length."""
    values, order = lengths.sort(descending=True, stable=True)
    sizes = values.tolist()
    start = 0
    while start < len(sizes) and sizes[start] > 0:
        stop = start
        while stop < len(sizes) and sizes[stop] > 0 and sizes[stop] >= _LIKE_LENGTH * sizes[start]:
            stop += 1
        yield order[start:stop]
        start = stop
