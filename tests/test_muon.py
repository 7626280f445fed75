"""Muon for the matrices inside the blocks, as torch's own; fused ones part by part; AdamW for the rest."""

import copy

import pytest
import torch
import transformers as t
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from transformers.models.bloom.modeling_bloom import BloomAttention

from hmpo_lib.optim import Layout, MuonAdamW
from hmpo_lib.optim.matrices import muon_matrices

from .tiny_models import MODELS, SIZES, backward, tiny_batch, tiny_model

FAMILIES = sorted(MODELS)
OPTIONS = {"adamw_lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}


def gradients(model, seed):
    """The same random gradients for models of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def names_of(model, weights):
    return {name for name, weight in model.named_parameters() if any(weight is w for w in weights)}


# --- who goes where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_of_the_blocks_go_to_muon_and_everything_else_to_adamw(family):
    model = tiny_model(family)
    muon, rest = (names_of(model, group["params"]) for group in MuonAdamW(model).param_groups)
    blocks = {
        name for name, weight in model.named_parameters() if weight.dim() == 2 and (".layers." in name or ".h." in name)
    }
    assert muon == blocks
    assert muon | rest == {name for name, _ in model.named_parameters()}
    assert not muon & rest
    assert any("embed" in name or "wte" in name for name in rest)


def test_frozen_parameters_are_left_out():
    model = tiny_model("llama")
    model.model.embed_tokens.weight.requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    chosen = {name for group in MuonAdamW(model).param_groups for name in names_of(model, group["params"])}
    assert "model.embed_tokens.weight" not in chosen
    assert "model.layers.0.mlp.up_proj.weight" not in chosen


def test_a_tied_head_goes_to_adamw_once():
    model = tiny_model("llama", tie_word_embeddings=True)
    muon, rest = (group["params"] for group in MuonAdamW(model).param_groups)
    assert sum(weight is model.lm_head.weight for weight in rest) == 1
    assert not any(weight is model.lm_head.weight for weight in muon)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match=r"Linear has no matrix for Muon: expected Linear layers, .* nn.ModuleList"):
        MuonAdamW(nn.Linear(2, 2))


# --- what they do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adjust_lr_fn", ["original", "match_rms_adamw"])
def test_matrices_move_as_with_torch_muon_and_the_rest_as_with_torch_adamw(adjust_lr_fn):
    model = tiny_model("llama_gqa").float()
    twin = copy.deepcopy(model)
    inside = [w for name, w in twin.named_parameters() if w.dim() == 2 and ".layers." in name]
    outside = [w for name, w in twin.named_parameters() if not (w.dim() == 2 and ".layers." in name)]
    own = MuonAdamW(model, 0.02, adjust_lr_fn=adjust_lr_fn, **OPTIONS)
    theirs = [
        torch.optim.Muon(inside, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn=adjust_lr_fn),
        torch.optim.AdamW(outside, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step in range(4):
        gradients(model, step)
        gradients(twin, step)
        own.step()
        for optimizer in theirs:
            optimizer.step()
    assert all(torch.equal(w, o) for w, o in zip(model.parameters(), twin.parameters(), strict=True))


def stored_apart(name, model):
    """A fused projection's q, k and v as matrices [out, in] of their own, by indices written out by hand."""
    weight = model.get_parameter(name)
    heads = torch.arange(4)[:, None]
    rows = {
        "gpt2": [slice(0, 16), slice(16, 32), slice(32, 48)],
        "phi3": [slice(0, 16), slice(16, 24), slice(24, 32)],  # two key heads
        "gpt_neox": [(heads * 12 + part * 4 + torch.arange(4)).flatten() for part in range(3)],
    }[model.config.model_type]
    return [(weight.T if model.config.model_type == "gpt2" else weight)[part] for part in rows], rows


FUSED = {
    "gpt2": "transformer.h.0.attn.c_attn.weight",
    "phi3": "model.layers.0.self_attn.qkv_proj.weight",
    "gpt_neox": "gpt_neox.layers.0.attention.query_key_value.weight",
}


@pytest.mark.parametrize("adjust_lr_fn", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("family", FUSED)
def test_a_fused_projection_moves_as_q_k_and_v_stored_apart(family, adjust_lr_fn):
    model = tiny_model(family).float()
    parts, rows = stored_apart(FUSED[family], model)
    apart = [nn.Parameter(part.detach().clone()) for part in parts]
    own = MuonAdamW(model, 0.02, adjust_lr_fn=adjust_lr_fn, **OPTIONS)
    theirs = torch.optim.Muon(apart, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn=adjust_lr_fn)
    for step in range(3):
        gradients(model, step)
        gradient = model.get_parameter(FUSED[family]).grad
        for part, index in zip(apart, rows, strict=True):
            part.grad = (gradient.T if family == "gpt2" else gradient)[index].clone()
        own.step()
        theirs.step()
    for moved, expected in zip(stored_apart(FUSED[family], model)[0], apart, strict=True):
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-7)


# Where each head's rows of [out, in] are, in a model of 4 heads of 4 (2 of them of k and v where they are shared).
HEADS = {
    ("llama", "q_proj"): [slice(4 * h, 4 * h + 4) for h in range(4)],
    ("llama", "v_proj"): [slice(4 * h, 4 * h + 4) for h in range(4)],
    ("llama_gqa", "q_proj"): [slice(4 * h, 4 * h + 4) for h in range(4)],
    ("llama_gqa", "k_proj"): [slice(0, 4), slice(4, 8)],
    ("llama_gqa", "v_proj"): [slice(0, 4), slice(4, 8)],
    ("llama_gqa", "o_proj"): [slice(0, 16)],
    ("gpt2", "c_attn"): [slice(4 * b, 4 * b + 4) for b in range(12)],
    ("gpt_neox", "query_key_value"): [slice(4 * b, 4 * b + 4) for b in range(12)],
    ("phi3", "qkv_proj"): [slice(4 * b, 4 * b + 4) for b in range(8)],
    # Latent attention: of q 4 of content and 2 rotary, of k 4, of v 3; what all heads share stays whole.
    ("deepseek_v3", "q_b_proj"): [slice(6 * h + a, 6 * h + b) for h in range(4) for a, b in ((0, 4), (4, 6))],
    ("deepseek_v3", "kv_b_proj"): [slice(7 * h + a, 7 * h + b) for h in range(4) for a, b in ((0, 4), (4, 7))],
    ("deepseek_v3", "kv_a_proj_with_mqa"): [slice(0, 8)],
}


@pytest.mark.parametrize("adjust_lr_fn", ["original", "match_rms_adamw"])
@pytest.mark.parametrize(("family", "projection"), HEADS)
def test_head_by_head_a_projection_moves_as_separate_matrices(family, projection, adjust_lr_fn):
    model = tiny_model(family).float()
    (weight,) = (w for name, w in model.named_parameters() if name.endswith(f".{projection}.weight"))
    rows = HEADS[family, projection]

    def heads_of(whole):
        return [(whole.T if family == "gpt2" else whole)[part].detach().clone() for part in rows]

    apart = [nn.Parameter(head) for head in heads_of(weight)]
    own = MuonAdamW(model, 0.02, per_head=True, adjust_lr_fn=adjust_lr_fn, **OPTIONS)
    theirs = torch.optim.Muon(apart, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn=adjust_lr_fn)
    for step in range(3):
        gradients(model, step)
        for head, gradient in zip(apart, heads_of(weight.grad), strict=True):
            head.grad = gradient
        own.step()
        theirs.step()
    assert sum(head.shape[0] for head in apart) == (weight.shape[1] if family == "gpt2" else weight.shape[0])
    for moved, expected in zip(heads_of(weight), apart, strict=True):
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)


def test_head_by_head_a_step_is_another_than_whole():
    models = [tiny_model("llama").float() for _ in range(2)]
    for model, per_head in zip(models, (False, True), strict=True):
        gradients(model, 0)
        MuonAdamW(model, 0.02, per_head=per_head).step()
    one, other = (model.model.layers[0] for model in models)
    for name in ("q_proj", "k_proj", "v_proj"):
        assert (
            one.self_attn.get_submodule(name).weight - other.self_attn.get_submodule(name).weight
        ).abs().max() > 1e-3
    for name in ("self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
        assert torch.equal(one.get_submodule(name).weight, other.get_submodule(name).weight)


def test_head_by_head_needs_attention_whose_heads_are_known():
    model = t.BloomForCausalLM(t.BloomConfig(vocab_size=13, hidden_size=16, n_layer=1, n_head=4))
    with pytest.raises(ValueError, match=r"transformer.h.0.self_attention \(BloomAttention\) has heads in a way that"):
        MuonAdamW(model, per_head=True)
    layout = Layout.interleaved("query_key_value", heads=4, size=4)
    optimizer = MuonAdamW(model, per_head=True, layouts={BloomAttention: lambda module: layout})
    gradients(model, 0)
    optimizer.step()
    assert optimizer._matrices[model.transformer.h[0].self_attention.query_key_value.weight].per_head


def test_head_by_head_works_with_normalized_queries_and_keys():
    sizes = {"num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 24}
    model = t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, **sizes))
    assert muon_matrices(model, per_head=True)[model.model.layers[0].self_attn.k_proj.weight].per_head


def test_orthogonalized_whole_a_fused_projection_would_move_otherwise():
    model = tiny_model("phi3").float()
    whole = nn.Parameter(model.get_parameter(FUSED["phi3"]).detach().clone())
    gradients(model, 0)
    whole.grad = model.get_parameter(FUSED["phi3"]).grad.clone()
    MuonAdamW(model, 0.02, weight_decay=0.0).step()
    torch.optim.Muon([whole], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    assert (model.get_parameter(FUSED["phi3"]) - whole).abs().max() > 1e-3


def test_a_conv1d_is_turned_before_the_factor_of_its_shape():
    model = tiny_model("gpt2").float()
    name = "transformer.h.0.mlp.c_fc.weight"  # [in, out] = [16, 64]
    turned = nn.Parameter(model.get_parameter(name).detach().T.clone())
    before = model.get_parameter(name).detach().clone()
    gradients(model, 0)
    turned.grad = model.get_parameter(name).grad.T.clone()
    MuonAdamW(model, 0.02, adamw_lr=0.0, adjust_lr_fn="original", weight_decay=0.0).step()
    torch.optim.Muon([turned], lr=0.02, weight_decay=0.0).step()
    torch.testing.assert_close(model.get_parameter(name), turned.T, rtol=0, atol=1e-7)
    # 64 outputs from 16 inputs: the factor is 2, which a step of unit singular values shows; unturned it would be 1.
    assert torch.linalg.matrix_norm(model.get_parameter(name) - before, 2) > 0.02 * 2 * 0.68


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_of_a_matrix_moves(family):
    model = tiny_model(family)
    before = [weight.detach().clone() for weight in muon_matrices(model)]
    optimizer = MuonAdamW(model, 0.1, weight_decay=0.1)
    gradients(model, 0)
    optimizer.step()
    for weight, old in zip(muon_matrices(model), before, strict=True):
        assert (weight != old).all()


def test_parameters_without_gradient_stay():
    model = tiny_model("llama")
    backward(model, tiny_batch())
    model.model.layers[0].mlp.up_proj.weight.grad = None
    model.model.norm.weight.grad = None
    before = copy.deepcopy(model.state_dict())
    MuonAdamW(model, 0.1).step()
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert "model.layers.0.mlp.up_proj.weight" not in moved
    assert "model.norm.weight" not in moved
    assert "model.layers.0.mlp.down_proj.weight" in moved


# --- an optimizer like any other -------------------------------------------------------------------------------------


def test_schedulers_set_both_rates():
    model = tiny_model("llama")
    optimizer = MuonAdamW(model, 0.02, adamw_lr=0.004)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    backward(model, tiny_batch())
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.002]
    before = copy.deepcopy(model.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_one_cycle_schedules_a_rate_for_each_group():
    optimizer = MuonAdamW(tiny_model("llama"))
    scheduler = OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=10, cycle_momentum=False)
    assert scheduler.get_last_lr() == pytest.approx([0.004, 0.0004])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_a_saved_and_loaded_optimizer_goes_on_bit_for_bit(family, tmp_path):
    model = tiny_model(family)
    optimizer = MuonAdamW(model, 0.02)
    for step in range(3):
        gradients(model, step)
        optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state")
    saved = torch.load(tmp_path / "state", weights_only=True)
    resumed = tiny_model(family, seed=1)
    resumed.load_state_dict(saved["model"])
    other = MuonAdamW(resumed, 0.5, momentum=0.1)
    other.load_state_dict(saved["optimizer"])
    for step in range(3, 13):
        for m, o in ((model, optimizer), (resumed, other)):
            gradients(m, step)
            o.step()
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_copy_together_with_its_model_makes_the_same_steps():
    model = tiny_model("llama")
    optimizer = MuonAdamW(model, **OPTIONS)
    gradients(model, 0)
    optimizer.step()
    other, copied = copy.deepcopy((model, optimizer))
    for one in (model, other):
        gradients(one, 1)
    optimizer.step()
    copied.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_what_is_added_later_and_is_in_no_block_is_adamws():
    optimizer = MuonAdamW(tiny_model("llama"))
    extra, twin = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group({"params": [extra], "lr": 0.1})
    extra.grad = twin.grad = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    optimizer.step()
    torch.optim.AdamW([twin], lr=0.1, betas=(0.9, 0.95), weight_decay=0.0).step()
    assert torch.equal(extra, twin)


def test_a_layer_that_is_unfrozen_and_added_later_is_divided_as_the_others():
    model = tiny_model("llama")
    late = model.model.layers[0].mlp.requires_grad_(False)
    optimizer = MuonAdamW(model, 0.02)
    optimizer.add_param_group({"params": late.requires_grad_(True).parameters(), "lr": 0.5})
    assert [(group["rule"], group["lr"]) for group in optimizer.param_groups] == [
        ("muon", 0.02),
        ("adamw", 0.02),
        ("muon", 0.5),
    ]


def test_parameter_groups_have_their_own_settings_and_are_divided():
    model = tiny_model("llama").float()
    twin = copy.deepcopy(model)
    first, rest = ("q_proj", "embed_tokens", "norm"), ("k_proj", "lm_head")

    def params(of, ends):
        return [(name, w) for name, w in of.named_parameters() if any(end in name for end in ends)]

    own = MuonAdamW(
        model,
        0.02,
        param_groups=[
            {"params": params(model, first), "lr": 0.1, "weight_decay": 0.3},
            {"params": params(model, rest)},
        ],
    )
    assert [(group["rule"], group["lr"]) for group in own.param_groups] == [
        ("muon", 0.1),
        ("adamw", 0.1),
        ("muon", 0.02),
        ("adamw", 0.02),
    ]
    theirs = [
        torch.optim.Muon(
            [
                {"params": [w for _, w in params(twin, ["q_proj"])], "lr": 0.1, "weight_decay": 0.3},
                {"params": [w for _, w in params(twin, ["k_proj"])]},
            ],
            lr=0.02,
            weight_decay=0.1,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [
                {"params": [w for _, w in params(twin, ["embed_tokens", "norm"])], "lr": 0.1, "weight_decay": 0.3},
                {"params": [w for _, w in params(twin, ["lm_head"])]},
            ],
            lr=0.02,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]
    for step in range(3):
        gradients(model, step)
        gradients(twin, step)
        for optimizer in (own, *theirs):
            optimizer.step()
    assert all(torch.equal(w, o) for w, o in zip(model.parameters(), twin.parameters(), strict=True))
    assert {name for group in own.state_dict()["param_groups"] for name in group.get("param_names", ())} == {
        name for name, _ in params(model, first + rest)
    }


def test_a_group_with_a_rule_is_not_divided():
    model = tiny_model("llama")
    groups = [{"params": list(model.model.layers.parameters()), "rule": "adamw", "lr": 0.3}]
    groups += [{"params": model.lm_head.weight, "rule": "muon"}]
    optimizer = MuonAdamW(model, 0.02, param_groups=groups)
    assert [(group["rule"], group["lr"]) for group in optimizer.param_groups] == [("adamw", 0.3), ("muon", 0.02)]
    gradients(model, 0)
    before = model.lm_head.weight.detach().clone()
    optimizer.step()
    assert (model.lm_head.weight != before).all()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"rule": "sgd"}, "a parameter group has the rule 'sgd': expected 'muon' or 'adamw'"),
        ({"rule": "muon"}, r"a weight for Muon has the shape \(16,\): expected a matrix"),
    ],
)
def test_a_wrong_group_is_refused(group, message):
    model = tiny_model("llama")
    with pytest.raises(ValueError, match=message):
        MuonAdamW(model, param_groups=[{"params": [model.model.norm.weight]} | group])


def test_a_weight_that_has_taken_anothers_place_is_an_error_by_name():
    model = tiny_model("llama")
    optimizer = MuonAdamW(model)
    optimizer.param_groups[0]["params"] = [nn.Parameter(torch.ones(3, 2))]
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"a weight of shape \(3, 2\) has taken the place of one"):
        optimizer.step()


def test_a_closure_is_called_with_gradients():
    model = tiny_model("llama")
    optimizer = MuonAdamW(model)

    def closure():
        loss = model(**tiny_batch()).logits.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adjust_lr_fn": "rms"}, "expected 'original' or 'match_rms_adamw'"),
        ({"adjust_lr_fn": "original"}, "expected an adamw_lr too"),
        ({"lr": -1.0}, "lr is -1.0: expected 0 or more"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MuonAdamW(tiny_model("llama"), **options)


def test_a_fused_projection_that_is_not_known_is_one_matrix():
    config = t.BloomConfig(vocab_size=13, hidden_size=16, n_layer=1, n_head=4)
    model = t.BloomForCausalLM(config)
    matrices = muon_matrices(model)
    assert matrices[model.transformer.h[0].self_attention.query_key_value.weight].parts == ()
