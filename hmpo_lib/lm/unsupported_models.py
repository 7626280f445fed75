"""Models that are refused, since sampling or scoring would read them wrongly; and how both read a prompt."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def prompt_inputs(prompt_ids: Tensor, prompt_mask: Tensor, cache: Cache) -> dict[str, Any]:
    """What a model is called with to read left-padded prompts into a cache; sampling and scoring must do it alike."""
    return {
        "input_ids": prompt_ids,
        "attention_mask": prompt_mask.long(),
        "position_ids": (prompt_mask.cumsum(dim=1) - 1).clamp(min=0),
        "past_key_values": cache,
        "use_cache": True,
    }


def attention_cache(model: PreTrainedModel) -> Cache:
    """An empty cache of keys and values.

    Raises:
        ValueError: the model keeps something else, such as a recurrent state, of which padding would be a part.
    """
    cache = DynamicCache(config=model.config)
    # By the very class: a layer that keeps a recurrent state besides is a DynamicLayer too.
    if not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        raise ValueError(_without_attention_cache(model))
    return cache


def require_kept(cache: Cache, tokens: int, model: PreTrainedModel) -> None:
    """Raises ValueError where a model that has read ``tokens`` tokens has not left all of them in the cache."""
    if not cache.layers or cache.get_seq_length() != tokens:
        raise ValueError(_without_attention_cache(model))


def _without_attention_cache(model: PreTrainedModel) -> str:
    return (
        f"{type(model).__name__} keeps no attention cache of all tokens: expected a model that does, such as Llama, "
        "Qwen3 or GPT-2; state-space, recurrent and hybrid models are not supported."
    )


def require_eval(model: PreTrainedModel) -> None:
    """Refuses a model in training mode, or with a module in it that was put in after ``eval()``."""
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"{name or 'the model'} is in training mode: dropout would move every ratio off 1; call model.eval()."
            )


def require_no_adapters(model: PreTrainedModel) -> None:
    """Refuses a model with PEFT adapters, around it or in it: they would be trained and not be saved as adapters."""
    if hasattr(model, "peft_config"):
        raise ValueError(
            f"{type(model).__name__} has PEFT adapters, which are not supported here: expected the plain model; give "
            "model.merge_and_unload(), or train adapters with TRL and this library's loss."
        )


def require_float32(model: PreTrainedModel) -> None:
    """Refuses weights of another type: steps of fine-tuning are lost in fewer bits."""
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise ValueError(
                f"{name} is {weight.dtype}: expected float32 weights, since steps of fine-tuning are lost in fewer "
                'bits; load with load_model, and set dtype="bfloat16" for arithmetic in bfloat16.'
            )


@torch.no_grad()
def require_causal_reading(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError where a model reads ahead, or reads a left-padded prompt otherwise than the prompt alone.

    BERT reads ahead unless told not to, and some models have rules of their own for positions (BART, RoBERTa): ratios
    would not begin at 1. Looked at in float32 only; rounding hides it in fewer bits.
    """
    special = set(tokenizer.all_special_ids)
    known = range(model.get_input_embeddings().num_embeddings)
    ids = [index for index in known if index not in special][:4]
    if len(ids) < 2 or model.dtype != torch.float32:
        return
    alone = torch.tensor([ids], device=model.device)
    padded = F.pad(alone, (3, 0), value=tokenizer.pad_token_id)
    mask = F.pad(torch.ones_like(alone), (3, 0)).bool()
    expected = model(input_ids=alone, use_cache=False).logits[0]
    begun = model(input_ids=alone[:, :-1], use_cache=False).logits[0]
    beside_longer = model(**prompt_inputs(padded, mask, attention_cache(model))).logits[0, 3:]
    for got, what in (
        (begun, "the beginning of a prompt otherwise than without what follows"),
        (beside_longer, "a padded prompt otherwise than the prompt alone"),
    ):
        difference = (got - expected[: len(got)]).abs().max()
        if bool(difference > 1e-3 * expected.abs().max().clamp(min=1)):
            raise ValueError(
                f"{type(model).__name__} reads {what} (logits differ by {difference:.2g}): expected a causal model "
                "that takes position_ids and an attention mask, such as Llama, Qwen3 or GPT-2; it is not supported."
            )
