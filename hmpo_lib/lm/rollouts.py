"""Sampling completions with their log-probabilities.

`token_logprobs` computes these again with the same temperature and the same position ids, so that on the first step
after sampling every importance ratio is 1 (to rounding).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.model import check_special_tokens
from hmpo_lib.lm.reading import Reading
from hmpo_lib.lm.unsupported_models import attention_cache, prompt_inputs, require_eval, require_kept

# Finished rows leave the batch once they are this part of it: leaving copies the cache of all others.
_FINISHED_PART = 0.1


class Rollout(NamedTuple):
    """A batch of sampled completions, groups of the same prompt one after the other.

    Attributes:
        prompt_ids: ``[batch, prompt_time]``, left-padded.
        prompt_mask: ``[batch, prompt_time]``, bool.
        completion_ids: ``[batch, time]``, right-padded.
        completion_mask: ``[batch, time]``, bool; true up to and including eos.
        logprobs: ``[batch, time]``, nats, of each sampled token at the sampling temperature; 0 where masked.
        truncated: ``[batch]``, bool; true where no eos came within the limit.
        texts: the completions, decoded without special tokens.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    logprobs: Tensor
    truncated: Tensor
    texts: list[str]

    def select(self, rows: Tensor) -> "Rollout":
        """The rollout of the given rows ``[rows]`` (indices) alone."""
        tensors = {name: field[rows] for name, field in self._asdict().items() if isinstance(field, Tensor)}
        return self._replace(**tensors, texts=[self.texts[i] for i in rows.tolist()])


@torch.no_grad()
def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Samples ``group_size`` completions for each prompt.

    A prompt is read once for its group, and a completion that has ended leaves the batch.

    Args:
        model: a causal language model of transformers with an attention cache (Llama, GPT-2, ...), in eval mode.
        tokenizer: its tokenizer, with a pad that is not its eos.
        prompts: plain strings.
        group_size: completions per prompt.
        max_new_tokens: limit per completion, eos included.
        temperature: divides the logits; above 0.
        generator: source of randomness on the model's device; None makes a fresh one seeded from the system.

    Returns:
        A Rollout of ``len(prompts) * group_size`` rows.

    Raises:
        ValueError: no prompt, a limit or temperature that is not positive, a model in training mode or without an
            attention cache, pad equal to eos or unknown to the model.
    """
    if not prompts or group_size < 1 or max_new_tokens < 1 or not temperature > 0:
        raise ValueError(
            f"got {len(prompts)} prompts, group_size {group_size}, max_new_tokens {max_new_tokens}, temperature "
            f"{temperature}: expected at least one of each, and a temperature above 0."
        )
    require_eval(model)
    check_special_tokens(tokenizer)
    if tokenizer.pad_token_id >= (known := model.get_input_embeddings().num_embeddings):
        raise ValueError(
            f"the pad token {tokenizer.pad_token!r} has the id {tokenizer.pad_token_id}, and the model knows {known} "
            "tokens: expected one of them that never occurs in text; or call model.resize_token_embeddings."
        )
    device = model.device
    if generator is None:
        generator = torch.Generator(device)
        generator.seed()
    prompt_ids, prompt_mask = (tensor.to(device) for tensor in encode_prompts(tokenizer, prompts))
    if not bool(prompt_mask.any(dim=1).all()):
        raise ValueError("a prompt has no token: expected at least one to go on from; let empty ones begin with bos.")
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0 and prompt_ids.shape[1] + max_new_tokens > positions:
        raise ValueError(
            f"the longest prompt has {prompt_ids.shape[1]} tokens and max_new_tokens is {max_new_tokens}: expected "
            f"at most {positions} together, the model's positions."
        )
    # A model may end its answers with more than one token; both places that know are heard.
    also = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *([also] if isinstance(also, int) else also or [])}
    end_ids = torch.tensor(sorted(ends), device=device)

    # Drawn for all beforehand: what becomes of a completion does not depend on which others have ended.
    # Of a type that is said here, as everywhere: torch's default is the user's, and float64 would draw other numbers.
    size = (max_new_tokens, len(prompts) * group_size)
    uniforms = torch.rand(size, generator=generator, dtype=torch.float32, device=device)
    with attention_of_any_shape(device):
        tokens, logprobs = _sample_tokens(model, prompt_ids, prompt_mask, uniforms, end_ids, temperature)
    is_end = torch.isin(tokens, end_ids)
    completion_mask = is_end.cumsum(dim=1) - is_end.long() == 0
    completion_ids = tokens.masked_fill(~completion_mask, tokenizer.pad_token_id)
    return Rollout(
        prompt_ids=prompt_ids.repeat_interleave(group_size, dim=0),
        prompt_mask=prompt_mask.repeat_interleave(group_size, dim=0),
        completion_ids=completion_ids,
        completion_mask=completion_mask,
        logprobs=logprobs.masked_fill(~completion_mask, 0.0),
        truncated=~is_end.any(dim=1),
        texts=tokenizer.batch_decode(completion_ids, skip_special_tokens=True),
    )


@contextmanager
def attention_of_any_shape(device: torch.device) -> Iterator[None]:
    """Without cuDNN's attention, which makes a plan for each new shape: here each token and each pass has another one.

    In half precision torch takes it where it can, and making the plans took most of the time.
    """
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """The prompts' token ids, left-padded, and their mask.

    The text of a chat template often has the bos written out, and the tokenizer puts one before every text: what would
    begin twice begins once, as with ``apply_chat_template(tokenize=True)``.

    Returns:
        ``[prompts, time]`` ids and ``[prompts, time]`` bool.
    """
    opening = tokenizer("")["input_ids"]
    if opening[1:] and opening[-1] == tokenizer.eos_token_id:  # some close every text, too
        opening.pop()
    begun = len(opening)
    with Reading(
        f"the tokenizer cannot read the prompts, such as {prompts[0]!r:.80}", advice="give prompts that it can"
    ):
        encoded = tokenizer(prompts)["input_ids"]
    rows = [
        torch.tensor(ids[begun:] if begun and ids[begun : 2 * begun] == opening else ids, dtype=torch.long)
        for ids in encoded
    ]
    masks = [torch.ones_like(row, dtype=torch.bool) for row in rows]
    pad = tokenizer.pad_token_id
    prompt_ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
    return prompt_ids, pad_sequence(masks, batch_first=True, padding_side="left")


def _sample_tokens(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    uniforms: Tensor,
    end_ids: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probabilities, ``[batch, time]`` each; past the end of a row they mean nothing."""
    limit, batch = uniforms.shape
    rows = torch.arange(batch, device=prompt_ids.device)
    group = rows // (batch // len(prompt_ids))
    cache = attention_cache(model)
    logits = model(**prompt_inputs(prompt_ids, prompt_mask, cache), logits_to_keep=1).logits[group, -1]
    require_kept(cache, prompt_ids.shape[1], model)
    cache.reorder_cache(group)
    attention_mask = F.pad(prompt_mask[group].long(), (0, limit), value=1)
    position_ids = prompt_mask[group].sum(dim=1, keepdim=True)

    tokens = torch.zeros(limit, batch, dtype=torch.long, device=prompt_ids.device)
    logprobs = torch.zeros(limit, batch, dtype=torch.float32, device=prompt_ids.device)
    is_running = torch.ones_like(rows, dtype=torch.bool)
    for time in range(limit):
        token, logprob = draw(logits, uniforms[time, rows], temperature)
        tokens[time, rows], logprobs[time, rows] = token, logprob
        is_running &= ~torch.isin(token, end_ids)
        running = int(is_running.sum())
        if running == 0 or time == limit - 1:
            break
        if running <= (1 - _FINISHED_PART) * len(rows):
            kept = is_running.nonzero().squeeze(1)
            cache.reorder_cache(kept)
            rows, token, is_running = rows[kept], token[kept], is_running[kept]
            attention_mask, position_ids = attention_mask[kept], position_ids[kept]
        logits = model(
            input_ids=token.unsqueeze(1),
            attention_mask=attention_mask[:, : prompt_ids.shape[1] + time + 1],
            position_ids=position_ids + time,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    return tokens[: time + 1].T.contiguous(), logprobs[: time + 1].T.contiguous()


def draw(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A token of each row and its log-probability: the first at which the cumulated probability exceeds the uniform.

    Args:
        logits: ``[rows, vocabulary]``.
        uniforms: ``[rows]``, in [0, 1).
        temperature: divides the logits.

    Returns:
        ``[rows]`` token ids, never one of probability 0, and ``[rows]`` log-probabilities, nats.

    >>> draw(torch.tensor([[0.0, -torch.inf, 0.0]] * 3), torch.tensor([0.0, 0.4, 0.6]), 1.0)
    (tensor([0, 0, 2]), tensor([-0.6931, -0.6931, -0.6931]))
    """
    distribution = (logits.float() / temperature).log_softmax(dim=-1)
    cumulated = distribution.exp().cumsum(dim=-1)
    # Rounding makes the total not quite 1. Below it there is always a token, and one whose probability is not 0.
    total = cumulated[:, -1:]
    point = torch.minimum(uniforms.unsqueeze(1) * total, total.nextafter(torch.zeros_like(total)))
    token = torch.searchsorted(cumulated, point, right=True)
    token = token.clamp(max=distribution.shape[1] - 1)  # past the end where logits are nan; so are the log-probs then
    return token.squeeze(1), distribution.gather(1, token).squeeze(1)


def select_rows(cache: Cache, rows: Tensor) -> Cache:
    """A cache of the given rows, each as often as it is named; gradients pass, and the given cache stays as it is."""
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    selected.reorder_cache(rows)
    return selected
