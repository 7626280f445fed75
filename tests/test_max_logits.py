"""The monitor sees what the softmax gets: exactly, per head, and only in training."""

import copy
import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers as t
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AttentionMaskInterface

from hmpo_lib.optim import MaxLogitMonitor, attention_logits
from hmpo_lib.optim.attention_logits import max_attention_logits

from .tiny_models import MLP, MODELS, SIZES, backward, softmax_maxima, tiny_batch, tiny_model

FAMILIES = sorted(MODELS)
ROOT = Path(__file__).resolve().parent.parent


def seen(monitor):
    return torch.stack(list(monitor.max_logits().values()))


# --- models of transformers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_maxima_are_those_of_the_softmax_inputs_of_eager_attention(family, side):
    model, batch = tiny_model(family), tiny_batch(side=side)
    monitor = MaxLogitMonitor(model)
    model(**batch, use_cache=False)
    torch.testing.assert_close(seen(monitor), softmax_maxima(model, batch), rtol=1e-14, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_model_computes_the_same_bits_with_a_monitor(family):
    model, batch = tiny_model(family), tiny_batch()
    before = model(**batch, use_cache=False).logits
    backward(model, batch)
    gradients = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    MaxLogitMonitor(model)
    assert torch.equal(model(**batch, use_cache=False).logits, before)
    backward(model, batch)
    assert all(torch.equal(weight.grad, old) for weight, old in zip(model.parameters(), gradients, strict=True))


def test_without_the_mask_of_the_same_name_padding_counts(monkeypatch):
    model = tiny_model("llama")
    attention = model.model.layers[0].self_attn
    with torch.no_grad():  # what stands on padding makes the largest logit of head 0, with itself
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        model.model.layers[0].input_layernorm.weight.fill_(1.0)
        model.model.embed_tokens.weight[0] = torch.linalg.svd(attention.q_proj.weight[:4])[2][0]
    batch = tiny_batch()
    true = softmax_maxima(model, batch)
    monitor = MaxLogitMonitor(model)
    model(**batch, use_cache=False)
    torch.testing.assert_close(seen(monitor), true, rtol=1e-14, atol=0)
    monitor.reset()
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, "max_logits_sdpa")
    model(**batch, use_cache=False)
    assert seen(monitor)[0, 0] > 1.2 * true[0, 0]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_left_to_the_present_implementation_and_given_back(implementation):
    model, batch = tiny_model("qwen2"), tiny_batch()
    model.set_attn_implementation(implementation)
    before = model(**batch, use_cache=False).logits
    monitor = MaxLogitMonitor(model)
    # Eager attention in float64 gives nan on padding, by itself.
    same = {"rtol": 0, "atol": 0, "equal_nan": implementation == "eager"}
    torch.testing.assert_close(model(**batch, use_cache=False).logits, before, **same)
    torch.testing.assert_close(seen(monitor), softmax_maxima(model, batch), rtol=1e-14, atol=0)
    monitor.remove()
    assert model.config._attn_implementation == implementation
    monitor.reset()
    model(**batch, use_cache=False)
    with pytest.raises(ValueError, match="no attention logits were captured"):
        monitor.max_logits()


def test_generation_and_evaluation_do_not_count():
    model, batch = tiny_model("llama"), tiny_batch()
    monitor = MaxLogitMonitor(model)
    with torch.no_grad():
        model(**batch)
    model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=3, do_sample=False)
    with pytest.raises(ValueError, match="no attention logits were captured"):
        monitor.max_logits()
    with pytest.raises(ValueError, match="no queries and keys were captured"):
        monitor.norm_bounds()


def test_a_disabled_monitor_sees_nothing():
    model = tiny_model("llama")
    monitor = MaxLogitMonitor(model)
    monitor.enabled = False
    backward(model, tiny_batch())
    with pytest.raises(ValueError, match="while this monitor is enabled"):
        monitor.max_logits()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_loaded_monitor_is_enabled_where_the_saved_one_was(enabled):
    saved, loaded = MaxLogitMonitor(tiny_model("llama")), MaxLogitMonitor(tiny_model("llama"))
    saved.enabled, loaded.enabled = enabled, not enabled
    loaded.load_state_dict(saved.state_dict())
    assert loaded.enabled is enabled


def test_micro_batches_give_the_maximum_of_the_batch():
    model, batch = tiny_model("llama_gqa"), tiny_batch()
    monitor = MaxLogitMonitor(model)
    model(**batch, use_cache=False)
    whole = seen(monitor)
    monitor.reset()
    for row in range(3):
        model(**{name: value[row : row + 1] for name, value in batch.items()}, use_cache=False)
    torch.testing.assert_close(seen(monitor), whole, rtol=1e-14, atol=0)


def test_every_layer_is_seen_under_its_name():
    config = t.LlamaConfig(**{**SIZES, **MLP, "num_hidden_layers": 3})
    model, batch = t.LlamaForCausalLM(config).double().eval(), tiny_batch()
    monitor = MaxLogitMonitor(model)
    model(**batch, use_cache=False)
    assert list(monitor.max_logits()) == [f"model.layers.{i}.self_attn" for i in range(3)]
    torch.testing.assert_close(seen(monitor)[0], softmax_maxima(model, batch)[0], rtol=1e-12, atol=0)


def test_a_copy_of_the_model_is_not_watched():
    model, batch = tiny_model("llama"), tiny_batch()
    monitor = MaxLogitMonitor(model)
    other = copy.deepcopy(model)
    backward(other, batch)
    with pytest.raises(ValueError, match="no attention logits were captured"):
        monitor.max_logits()


def test_a_second_monitor_takes_the_first_ones_place():
    model, batch = tiny_model("gpt2"), tiny_batch()
    first = MaxLogitMonitor(model)
    second = MaxLogitMonitor(model)
    model(**batch, use_cache=False)
    torch.testing.assert_close(seen(second), softmax_maxima(model, batch), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="no later one has taken the model over"):
        first.max_logits()
    first.remove()  # too late to matter
    second.reset()
    model(**batch, use_cache=False)
    assert seen(second).shape == (1, 4)


@pytest.mark.parametrize("order", [("max_logit", "norm_bound"), ("norm_bound", "max_logit"), ("both", "max_logit")])
@pytest.mark.parametrize("first_removed", [0, 1])
def test_after_two_monitors_in_any_order_the_model_has_its_attention_back(order, first_removed):
    model = tiny_model("llama")
    monitors = [MaxLogitMonitor(model, measure=measure) for measure in order]
    monitors[first_removed].remove()
    monitors[1 - first_removed].remove()
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_bound_alone_leaves_the_attention_of_the_model_as_it_is():
    model, batch = tiny_model("llama"), tiny_batch()
    MaxLogitMonitor(model)
    monitor = MaxLogitMonitor(model, measure="norm_bound")
    assert model.config._attn_implementation == "sdpa"
    backward(model, batch)
    assert monitor.measured()["model.layers.0.self_attn"].shape == (4,)


def test_a_watched_model_runs_in_a_process_that_has_not_imported_the_monitor(tmp_path):
    model, batch = tiny_model("llama"), tiny_batch()
    MaxLogitMonitor(model, measure="max_logit")
    expected = model(**batch, use_cache=False).logits
    torch.save((model, batch), tmp_path / "pickled")
    program = f"""
import torch
model, batch = torch.load({str(tmp_path / "pickled")!r}, weights_only=False)
torch.save(model(**batch, use_cache=False).logits, {str(tmp_path / "logits")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)
    assert torch.equal(torch.load(tmp_path / "logits"), expected)


def test_a_model_that_is_dropped_is_freed():
    model = tiny_model("llama")
    monitor = MaxLogitMonitor(model)
    backward(model, tiny_batch())
    gone = weakref.ref(model)
    del model, monitor
    gc.collect()
    assert gone() is None


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_norm_bound_is_above_every_logit(family):
    model = tiny_model(family)
    monitor = MaxLogitMonitor(model)
    backward(model, tiny_batch())
    bounds = torch.stack(list(monitor.norm_bounds().values()))
    assert (bounds >= seen(monitor)).all()
    assert bounds.max() < 20 * seen(monitor).max()


def test_norm_bound_is_the_product_of_the_largest_norms():
    model, batch = tiny_model("llama_gqa"), tiny_batch()
    monitor = MaxLogitMonitor(model)
    inputs = []
    attention = model.model.layers[0].self_attn
    attention.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append(kwargs["hidden_states"]), with_kwargs=True
    )
    backward(model, batch)
    query = attention.q_proj(inputs[0]).view(3, 7, 4, 4).norm(dim=3).amax(dim=(0, 1))
    key = attention.k_proj(inputs[0]).view(3, 7, 2, 4).norm(dim=3).amax(dim=(0, 1))
    expected = query * key[[0, 0, 1, 1]] / 2
    torch.testing.assert_close(monitor.norm_bounds()["model.layers.0.self_attn"], expected, rtol=1e-12, atol=0)


def test_norm_bound_has_the_models_own_scaling():
    model = tiny_model("llama")
    monitor = MaxLogitMonitor(model)
    backward(model, tiny_batch())
    (before,) = monitor.norm_bounds().values()
    model.model.layers[0].self_attn.scaling *= 4
    monitor = MaxLogitMonitor(model)
    backward(model, tiny_batch())
    (after,) = monitor.norm_bounds().values()
    torch.testing.assert_close(after, 4 * before)


def test_norm_bound_is_met_where_q_is_k_even_if_the_rotation_stretches():
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    model = tiny_model("llama", rope_parameters=yarn, max_position_embeddings=64)
    assert model.model.rotary_emb.attention_scaling > 1.1
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    monitor = MaxLogitMonitor(model)
    model(input_ids=torch.tensor([[5]]))
    (logits,), (bounds,) = monitor.max_logits().values(), monitor.norm_bounds().values()
    torch.testing.assert_close(bounds, logits, rtol=1e-6, atol=0)


def test_norm_bound_alone_works_where_logits_cannot_be_seen():
    config = t.GPTJConfig(vocab_size=13, n_embd=16, n_layer=1, n_head=4, rotary_dim=4, n_positions=16)
    model = t.GPTJForCausalLM(config)
    monitor = MaxLogitMonitor(model, measure="norm_bound")
    model(input_ids=tiny_batch()["input_ids"])
    assert monitor.measured()["transformer.h.0.attn"].shape == (4,)


# --- modules of one's own --------------------------------------------------------------------------------------------


class PlainAttention(nn.Module):
    """As in a textbook: names and the way to the softmax vary."""

    def __init__(self, names, way):
        super().__init__()
        self.num_heads, self.names, self.way = 2, names, way
        for name in names:
            setattr(self, name, nn.Linear(6, 6))

    def forward(self, x):
        q, k = (getattr(self, name)(x).unflatten(-1, (2, 3)).transpose(1, 2) for name in self.names)
        if self.way == "sdpa":
            return F.scaled_dot_product_attention(q, k, k, is_causal=True)
        logits = (q @ k.mT / 3**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        if self.way == "batch and heads as one":
            return logits.flatten(0, 1).softmax(dim=-1) @ k.flatten(0, 1)
        return (nn.Softmax(dim=-1)(logits) if self.way == "module" else torch.softmax(logits, dim=-1)) @ k


@pytest.mark.parametrize("way", ["sdpa", "module", "function", "batch and heads as one"])
@pytest.mark.parametrize("names", [("q_proj", "k_proj"), ("W_q", "W_k"), ("query", "key"), ("q", "k")])
def test_a_plain_module_is_seen(names, way):
    model = nn.Sequential(PlainAttention(names, way)).double()
    monitor = MaxLogitMonitor(model)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    model(x)
    q, k = (getattr(model[0], name)(x).view(4, 5, 2, 3) for name in names)
    logits = torch.einsum("bihd,bjhd->bhij", q, k) / 3**0.5
    logits = logits.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(monitor.max_logits()["0"], logits.amax(dim=(0, 2, 3)), rtol=1e-12, atol=0)


def test_softmax_outside_an_attention_module_is_not_seen_even_after_an_error():
    model = PlainAttention(("q", "k"), "module")
    monitor = MaxLogitMonitor(model)
    with pytest.raises(RuntimeError):
        model(torch.zeros(4, 5, 7))
    F.softmax(torch.full((4, 2, 5, 5), 99.0), dim=-1)
    with pytest.raises(ValueError, match="no attention logits were captured in PlainAttention"):
        monitor.max_logits()


def test_a_softmax_without_a_dimension_of_heads_is_an_error():
    class OneHeadAtATime(PlainAttention):
        def forward(self, x):
            return self.q(x).softmax(dim=-1)

    model = OneHeadAtATime(("q", "k"), "module")
    MaxLogitMonitor(model)
    with pytest.raises(ValueError, match=r"shape \(3,\): expected its \[heads\] = \(2,\)"):
        model(torch.randn(3, 5, 6))


# --- the computation -------------------------------------------------------------------------------------------------


@given(
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    groups=st.sampled_from([1, 2, 4]),
    elements=st.sampled_from([1, 40, 200, 10**6]),
    kind=st.sampled_from(["none", "causal", "boolean", "numbers", "row"]),
    seed=st.integers(0, 99),
)
def test_chunked_maxima_are_the_maxima_of_all_logits(queries, keys, groups, elements, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers and a power of two: every order of summation gives the same bits.
    query = torch.randint(-9, 9, (2, 4, queries, 3), generator=generator).double()
    key = torch.randint(-9, 9, (2, 4 // groups, keys, 3), generator=generator).double()
    allowed = torch.rand(2, 1, queries, keys, generator=generator) < 0.4
    numbers = torch.randint(-5, 5, (2, 4, queries, keys), generator=generator).double()
    mask = {"boolean": allowed, "numbers": numbers, "row": allowed[:, :, :1]}.get(kind)
    logits = query @ key.repeat_interleave(groups, dim=1).mT * 0.25
    if kind == "causal":
        logits = logits.masked_fill(torch.ones(queries, keys).triu(1).bool(), -torch.inf)
    elif kind == "numbers":
        logits = logits + numbers
    elif mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    before = attention_logits._CHUNK_ELEMENTS
    attention_logits._CHUNK_ELEMENTS = {"cpu": elements}
    try:
        maxima = max_attention_logits(query, key, scaling=0.25, mask=mask, causal=kind == "causal")
    finally:
        attention_logits._CHUNK_ELEMENTS = before
    assert torch.equal(maxima, logits.amax(dim=(0, 2, 3)))


def test_all_logits_never_exist_at_once(monkeypatch):
    sizes = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: sizes.append(a.shape[0] * a.shape[1] * b.shape[2]) or bmm(a, b))
    query = torch.randn(1, 4, 2048, 8)
    max_attention_logits(query, query, scaling=1.0, causal=True)
    assert max(sizes) <= 2**20 < 4 * 2048 * 2048
    assert sum(sizes) < 0.6 * 4 * 2048 * 2048  # and what a causal mask hides is not computed


def test_half_precision_is_computed_in_float32():
    query = torch.tensor([[[[1.0, 1 / 256]]]]).bfloat16()
    assert max_attention_logits(query, query, scaling=1.0).tolist() == [1 + 2.0**-16]


# --- refusals --------------------------------------------------------------------------------------------------------

GQA = {**SIZES, **MLP, "num_key_value_heads": 2}
REFUSED = {
    "qwen3": (lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GQA, head_dim=4)), r"self_attn \(Qwen3Attention\) normalizes"),
    "olmo2": (lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**GQA, pad_token_id=0)), r"\(Olmo2Attention\) normalizes"),
    "gemma3": (
        lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GQA, head_dim=4)),
        r"\(Gemma3Attention\) normalizes queries and keys \(q_norm, k_norm\)",
    ),
    "phi with norm": (
        lambda: t.PhiForCausalLM(t.PhiConfig(**SIZES, **MLP, qk_layernorm=True)),
        r"normalizes queries and keys \(q_layernorm, k_layernorm\)",
    ),
    "gemma2": (
        lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**GQA, head_dim=4)),
        r"\(Gemma2Attention\) caps its logits \(attn_logit_softcapping\)",
    ),
    "gpt_oss": (
        lambda: t.GptOssForCausalLM(t.GptOssConfig(**GQA, head_dim=4, num_local_experts=2, num_experts_per_tok=1)),
        r"\(GptOssAttention\) has attention sinks",
    ),
    "olmo with clamp": (
        lambda: t.OlmoForCausalLM(t.OlmoConfig(**GQA, clip_qkv=8.0, pad_token_id=0)),
        r"clamps q and k \(clip_qkv\)",
    ),
    "bloom": (
        lambda: t.BloomForCausalLM(t.BloomConfig(vocab_size=13, hidden_size=16, n_layer=1, n_head=4)),
        "BloomForCausalLM does not call its attention through",
    ),
    "falcon": (lambda: t.FalconForCausalLM(t.FalconConfig(**SIZES)), "FalconForCausalLM does not call its attention"),
    "gptj": (
        lambda: t.GPTJForCausalLM(t.GPTJConfig(vocab_size=13, n_embd=16, n_layer=1, n_head=4, rotary_dim=4)),
        "GPTJForCausalLM does not call its attention through",
    ),
    "mpt": (lambda: t.MptForCausalLM(t.MptConfig(d_model=16, n_heads=4, n_layers=1, vocab_size=13)), "MptForCausalLM"),
    "keys of another width": (
        lambda: nn.Sequential(nn.MultiheadAttention(8, 2, kdim=6)),
        r"0 \(MultiheadAttention\) has keys or values of another width \(kdim, vdim\)",
    ),
    "a key for everyone": (
        lambda: nn.Sequential(nn.MultiheadAttention(8, 2, add_bias_kv=True)),
        r"0 \(MultiheadAttention\) adds a key of its own \(add_bias_kv, add_zero_attn\)",
    ),
    "a key of zeros": (lambda: nn.Sequential(nn.MultiheadAttention(8, 2, add_zero_attn=True)), "adds a key of its own"),
    "no attention": (lambda: nn.Linear(2, 2), "Linear has no attention module"),
}


@pytest.mark.parametrize("model", REFUSED)
def test_what_the_clip_cannot_treat_is_refused_by_name_and_reason(model):
    make, reason = REFUSED[model]
    with pytest.raises(ValueError, match=reason):
        MaxLogitMonitor(make())


def test_a_refused_model_keeps_its_attention():
    model = REFUSED["qwen3"][0]()
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match="normalizes"):
        MaxLogitMonitor(model)
    assert model.config._attn_implementation == before


def test_attention_that_shows_no_logits_is_refused():
    model = tiny_model("llama")
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="has the attention 'flex_attention', which shows no logits"):
        MaxLogitMonitor(model)


@pytest.mark.parametrize("measure", ["max_logit", "norm_bound"])
def test_logits_with_a_bias_by_position_are_refused(measure):
    model = t.T5EncoderModel(t.T5Config(vocab_size=13, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4))
    with pytest.raises(ValueError, match=r"SelfAttention .T5Attention. adds a position bias to its logits"):
        MaxLogitMonitor(model, measure=measure)


def test_the_bound_by_norms_holds_where_logits_are_not_scaled():
    torch.manual_seed(0)
    sizes = {"vocab_size": 13, "hidden_size": 16, "num_layers": 1, "num_heads": 4, "intermediate_size": 24}
    model = t.GPTNeoForCausalLM(t.GPTNeoConfig(**sizes, attention_types=[[["global"], 1]])).double().eval()
    attention = model.transformer.h[0].attn.attention
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)  # a token's own logit is the product of both norms
    monitor = MaxLogitMonitor(model, measure="norm_bound")
    model(input_ids=tiny_batch()["input_ids"])
    (bound,) = monitor.norm_bounds().values()
    monitor.remove()
    (largest,) = softmax_maxima(model, {"input_ids": tiny_batch()["input_ids"]})
    assert (bound >= largest * (1 - 1e-6)).all()  # this model multiplies in float32
    assert (bound < 1.5 * largest).all()


@pytest.mark.parametrize("name", ["position_bias", "softcap", "s_aux"])
def test_logits_that_more_than_q_and_k_decides_are_refused_when_they_are_seen(name):
    model = tiny_model("llama")
    MaxLogitMonitor(model)
    with pytest.raises(ValueError, match=f"self_attn passes its attention a {name}: expected logits of q and k alone"):
        model(**tiny_batch(), **{name: torch.ones(4)})


def test_a_module_that_does_not_say_its_heads_is_refused():
    model = PlainAttention(("q", "k"), "sdpa")
    del model.num_heads
    with pytest.raises(ValueError, match="PlainAttention does not say how many heads it has"):
        MaxLogitMonitor(model)


def test_projections_that_are_not_whole_heads_are_refused():
    model = PlainAttention(("q", "k"), "sdpa")
    model.head_dim = 4
    with pytest.raises(ValueError, match=r"PlainAttention.q has 6 output features: expected 8, 2 heads of 4"):
        MaxLogitMonitor(model)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="expected 'max_logit', 'norm_bound' or 'both'"):
        MaxLogitMonitor(tiny_model("llama"), measure="guess")
