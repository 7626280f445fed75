"""One-layer models of each family, from configurations, with random weights in float64; and a batch with padding."""

import copy

import torch
import transformers as t
from torch import nn

SIZES = {"vocab_size": 13, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MLP = {"intermediate_size": 24}
MODELS = {
    "llama": lambda **o: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, **MLP, **SPECIAL, **o)),
    "llama_gqa": lambda **o: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, **MLP, **SPECIAL, num_key_value_heads=2, **o)),
    "mistral": lambda **o: t.MistralForCausalLM(
        t.MistralConfig(**SIZES, **MLP, **SPECIAL, num_key_value_heads=2, sliding_window=3, **o)
    ),
    "qwen2": lambda **o: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES, **MLP, **SPECIAL, num_key_value_heads=1, **o)),
    "opt": lambda **o: t.OPTForCausalLM(
        t.OPTConfig(**SIZES, **SPECIAL, ffn_dim=24, word_embed_proj_dim=16, dropout=0.0, **o)
    ),
    "phi": lambda **o: t.PhiForCausalLM(t.PhiConfig(**SIZES, **MLP, **SPECIAL, **o)),
    "gpt2": lambda **o: t.GPT2LMHeadModel(
        t.GPT2Config(**SIZES, **SPECIAL, scale_attn_by_inverse_layer_idx=True, attn_pdrop=0.0, **o)
    ),
    "gpt_neox": lambda **o: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES, **MLP, **SPECIAL, **o)),
    "phi3": lambda **o: t.Phi3ForCausalLM(t.Phi3Config(**SIZES, **MLP, **SPECIAL, num_key_value_heads=2, **o)),
    "deepseek_v3": lambda **o: t.DeepseekV3ForCausalLM(
        t.DeepseekV3Config(
            **{**SIZES, **MLP, **SPECIAL, "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 6},
            qk_nope_head_dim=4,
            qk_rope_head_dim=2,
            v_head_dim=3,
            first_k_dense_replace=9,
            **o,
        )
    ),
}


def tiny_model(family: str, *, seed: int = 0, **options: object) -> t.PreTrainedModel:
    """A model whose every parameter is random, biases too, with logits of about 1 to 10."""
    return with_random_weights(MODELS[family](**options), seed=seed)


def with_random_weights(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """The model in float64, every parameter drawn anew."""
    model.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


def tiny_batch(*, seed: int = 0, side: str = "left") -> dict[str, torch.Tensor]:
    """Three rows of 7 tokens, of which 0, 2 and 5 are padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 13, (3, 7), generator=generator)
    mask = torch.arange(7) >= torch.tensor([[0], [2], [5]])
    mask = mask if side == "left" else mask.flip(1)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long(), "position_ids": positions}


def softmax_maxima(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The largest input of the softmax of each head, ``[layers, heads]``, by transformers' own eager attention."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    seen = []
    softmax = nn.functional.softmax

    def record(logits: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        seen.append(logits.detach())
        return softmax(logits, *args, **options)

    nn.functional.softmax = record
    try:
        eager(**batch, use_cache=False)
    finally:
        nn.functional.softmax = softmax
    return torch.stack([logits.amax(dim=(0, 2, 3)) for logits in seen])


def backward(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """A forward pass and the gradient of some loss."""
    model(**batch, use_cache=False).logits.logsumexp(dim=-1).sum().backward()
