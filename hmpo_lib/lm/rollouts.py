"""Sampling completions with their log-probabilities, and computing those again under a moved policy.

Both use the same temperature, the same padding and the same position ids, so that on the first step after sampling
every importance ratio is 1 (to rounding).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.model import check_special_tokens


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
        ValueError: no prompt, a limit or temperature that is not positive, a model in training mode, pad equal to eos.
    """
    if not prompts or group_size < 1 or max_new_tokens < 1 or not temperature > 0:
        raise ValueError(
            f"got {len(prompts)} prompts, group_size {group_size}, max_new_tokens {max_new_tokens}, temperature "
            f"{temperature}: expected at least one of each, and a temperature above 0."
        )
    if model.training:
        raise ValueError("the model is in training mode: dropout would move every ratio off 1; call model.eval().")
    check_special_tokens(tokenizer)
    device = model.device
    if generator is None:
        generator = torch.Generator(device)
        generator.seed()
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(device)
    prompt_ids, attention_mask = encoded["input_ids"], encoded["attention_mask"]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and prompt_ids.shape[1] + max_new_tokens > positions:
        raise ValueError(
            f"the longest prompt has {prompt_ids.shape[1]} tokens and max_new_tokens is {max_new_tokens}: expected "
            f"at most {positions} together, the model's positions."
        )
    # A model may end its answers with more than one token; both places that know are heard.
    also = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *([also] if isinstance(also, int) else also or [])}
    end_ids = torch.tensor(sorted(ends), device=device)

    # Each prompt is read once; its cache is then repeated for the group.
    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=prompt_ids,
        attention_mask=attention_mask,
        position_ids=_position_ids(attention_mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    cache.batch_repeat_interleave(group_size)
    logits = logits.repeat_interleave(group_size, dim=0)
    prompt_ids = prompt_ids.repeat_interleave(group_size, dim=0)
    prompt_mask = attention_mask = attention_mask.repeat_interleave(group_size, dim=0)

    running = torch.ones(len(prompt_ids), dtype=torch.bool, device=device)
    tokens, logprobs, masks = [], [], []
    for _ in range(max_new_tokens):
        distribution = (logits.float() / temperature).log_softmax(dim=-1)
        token = torch.multinomial(distribution.exp(), 1, generator=generator)
        tokens.append(token.squeeze(1).masked_fill(~running, tokenizer.pad_token_id))
        logprobs.append(distribution.gather(1, token).squeeze(1).masked_fill(~running, 0.0))
        masks.append(running)
        running = running & ~torch.isin(tokens[-1], end_ids)
        if not bool(running.any()) or len(tokens) == max_new_tokens:
            break
        attention_mask = torch.cat([attention_mask, torch.ones_like(attention_mask[:, :1])], dim=1)
        logits = model(
            input_ids=tokens[-1].unsqueeze(1),
            attention_mask=attention_mask,
            position_ids=_position_ids(attention_mask)[:, -1:],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    completion_ids = torch.stack(tokens, dim=1)
    return Rollout(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask.bool(),
        completion_ids=completion_ids,
        completion_mask=torch.stack(masks, dim=1),
        logprobs=torch.stack(logprobs, dim=1),
        truncated=running,
        texts=tokenizer.batch_decode(completion_ids, skip_special_tokens=True),
    )


def token_logprobs(model: PreTrainedModel, rollout: Rollout, *, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of a rollout's completion tokens under ``model``, with gradients.

    Args:
        model: the policy, in eval mode.
        rollout: what was sampled.
        temperature: the one it was sampled with.

    Returns:
        ``[batch, time]``, nats; 0 where masked.
    """
    completion_mask = rollout.completion_mask
    attention_mask = torch.cat([rollout.prompt_mask, completion_mask], dim=1)
    logits = model(
        input_ids=torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
        attention_mask=attention_mask.long(),
        position_ids=_position_ids(attention_mask.long()),
        use_cache=False,
        logits_to_keep=completion_mask.shape[1] + 1,
    ).logits[:, :-1]
    distribution = (logits.float() / temperature).log_softmax(dim=-1)
    logprobs = distribution.gather(2, rollout.completion_ids.unsqueeze(2)).squeeze(2)
    return torch.where(completion_mask, logprobs, torch.zeros_like(logprobs))


def _position_ids(attention_mask: Tensor) -> Tensor:
    """Positions counted from the first real token, so that padding moves nothing."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
