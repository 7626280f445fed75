"""Muon for the matrices inside the blocks, as torch's own; fused ones part by part; AdamW for the rest."""

import copy

import pytest
import torch
import transformers as t
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from hmpo_lib.optim import MuonAdamW
from hmpo_lib.optim.muon import muon_matrices

from .tiny_models import MODELS, backward, tiny_batch, tiny_model

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
    for weight, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-7)
    assert all(torch.equal(w, o) for w, o in zip(own.param_groups[1]["params"], outside, strict=True))


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


def test_a_group_that_is_added_later_is_adamws():
    optimizer = MuonAdamW(tiny_model("llama"))
    extra, twin = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer.add_param_group({"params": [extra], "lr": 0.1})
    extra.grad = twin.grad = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    optimizer.step()
    torch.optim.AdamW([twin], lr=0.1, betas=(0.9, 0.95), weight_decay=0.0).step()
    assert torch.equal(extra, twin)


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
