"""QK-Clip brings the heads that are too loud to the threshold and leaves every other bit alone."""

import copy
import pickle
import tracemalloc

import pytest
import torch
import transformers as t
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim.lr_scheduler import LambdaLR

from hmpo_lib.optim import ClipRecord, MaxLogitMonitor, MuonClip, QKClip, clip_record
from hmpo_lib.optim.attention import attention_layouts
from hmpo_lib.optim.qk_clip import clip_factors

from .tiny_models import MLP, MODELS, SIZES, backward, softmax_maxima, tiny_batch, tiny_model

FAMILIES = sorted(MODELS)


def still(model):
    """An optimizer that moves nothing."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def clip_once(model, threshold, **options):
    optimizer = QKClip(still(model), model, threshold, **options)
    backward(model, tiny_batch())
    optimizer.step()
    return optimizer


def head_weights(model):
    """Weights and biases of each query head, flat: [heads, numbers]."""
    ((module, layout),) = attention_layouts(model).values()
    flat = []
    for part in [query for query, _ in layout.pairs]:
        projection = module.get_submodule(part.projection)
        rows = projection.weight if type(projection).__name__ == "Conv1D" else projection.weight.T
        flat += [part.blocks(rows).transpose(0, 1).flatten(1)]
        flat += [part.blocks(projection.bias)] if projection.bias is not None else []
    return torch.cat(flat, dim=1).detach().clone()


# --- one layer, a step that moves nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_clipped_head_meets_the_threshold_and_the_others_keep_their_bits(family, side):
    model, batch = tiny_model(family), tiny_batch(side=side)
    before = softmax_maxima(model, batch)[0]
    threshold = float(before.sort().values[1:3].mean())  # two heads above, two below
    weights = head_weights(model)
    optimizer = QKClip(still(model), model, threshold)
    backward(model, batch)
    optimizer.step()
    after = softmax_maxima(model, batch)[0]
    loud = before > threshold
    assert loud.sum() == 2
    torch.testing.assert_close(after[loud], torch.full_like(after[loud], threshold), rtol=0, atol=1e-9)
    assert torch.equal(after[~loud], before[~loud])
    assert torch.equal(head_weights(model)[~loud], weights[~loud])
    assert optimizer.history[-1].heads_clipped == 2


@pytest.mark.parametrize("family", ["llama_gqa", "mistral", "qwen2", "phi3"])
def test_a_shared_key_is_not_touched(family):
    model = tiny_model(family)
    ((module, layout),) = attention_layouts(model).values()
    ((_, key),) = layout.pairs
    assert key.heads < layout.heads

    def keys():
        projection = module.get_submodule(key.projection)
        bias = [] if projection.bias is None else [key.blocks(projection.bias).detach().clone()]
        return [key.blocks(projection.weight.T).detach().clone(), *bias]

    before = keys()
    clip_once(model, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(keys(), before, strict=True))


def test_latent_attention_scales_q_rotary_by_gamma_and_leaves_the_shared_key():
    model = tiny_model("deepseek_v3")
    attention = model.model.layers[0].self_attn
    old = copy.deepcopy(attention.state_dict())
    (gamma,) = clip_once(model, 0.5).history[-1].gammas.values()
    new = attention.state_dict()
    q, k = (d["q_b_proj.weight"].view(4, 6, 8) for d in (new, old))
    torch.testing.assert_close(q[:, :4], k[:, :4] * gamma.sqrt()[:, None, None])
    torch.testing.assert_close(q[:, 4:], k[:, 4:] * gamma[:, None, None])
    kv, old_kv = (d["kv_b_proj.weight"].view(4, 7, 6) for d in (new, old))
    torch.testing.assert_close(kv[:, :4], old_kv[:, :4] * gamma.sqrt()[:, None, None])
    assert torch.equal(kv[:, 4:], old_kv[:, 4:])  # values
    assert torch.equal(new["kv_a_proj_with_mqa.weight"], old["kv_a_proj_with_mqa.weight"])


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_everything_outside_q_and_k_keep_their_bits(family):
    model = tiny_model(family)
    ((module, layout),) = attention_layouts(model).values()
    projections = {part.projection for part in layout.parts}
    fused = module.get_submodule(layout.split[2].projection) if layout.split else None

    def untouched():
        owned = {id(p) for name in projections for p in module.get_submodule(name).parameters()}
        outside = [p for p in model.parameters() if id(p) not in owned]
        biases = [] if fused is None or fused.bias is None else [layout.split[2].blocks(fused.bias)]
        turned = [] if fused is None else [fused.weight if type(fused).__name__ == "Conv1D" else fused.weight.T]
        return [x.detach().clone() for x in [*outside, *biases, *(layout.split[2].blocks(x) for x in turned)]]

    before = untouched()
    assert clip_once(model, 0.01).history[-1].heads_clipped == 4
    assert all(torch.equal(a, b) for a, b in zip(untouched(), before, strict=True))


def test_scaling_the_weights_alone_would_miss_the_threshold():
    model, batch = tiny_model("opt"), tiny_batch()
    attention = model.model.decoder.layers[0].self_attn
    biases = attention.q_proj.bias.detach().clone(), attention.k_proj.bias.detach().clone()
    threshold = float(softmax_maxima(model, batch).max()) / 3
    clip_once(model, threshold)
    with torch.no_grad():
        attention.q_proj.bias.copy_(biases[0])
        attention.k_proj.bias.copy_(biases[1])
    assert abs(float(softmax_maxima(model, batch).max()) - threshold) > 0.01


def test_a_negative_maximum_is_left_alone():
    model, batch = tiny_model("opt"), tiny_batch()
    attention = model.model.decoder.layers[0].self_attn
    with torch.no_grad():  # q = 1 and k = -1 for every token
        for projection, value in ((attention.q_proj, 1.0), (attention.k_proj, -1.0)):
            projection.weight.zero_()
            projection.bias.fill_(value)
    assert (softmax_maxima(model, batch) < 0).all()
    before = copy.deepcopy(model.state_dict())
    optimizer = clip_once(model, 1e-3)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert optimizer.history[-1].heads_clipped == 0


def test_the_largest_negative_logit_does_not_trigger():
    model, batch = tiny_model("llama"), tiny_batch()
    monitor = MaxLogitMonitor(model)
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.weight.neg_()
    backward(model, batch)
    (flipped,) = monitor.max_logits().values()
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.weight.neg_()
    (logits,) = clip_once(model, 1e9).history[-1].max_logits.values()
    assert not torch.allclose(flipped, logits)  # signed: the largest, not the largest in size


# --- what is frozen --------------------------------------------------------------------------------------------------


def freeze(model, *names):
    for name, weight in model.named_parameters():
        if any(name.endswith(end) for end in names):
            weight.requires_grad_(False)
    return model


def test_frozen_queries_and_keys_are_watched_and_not_scaled():
    model = freeze(tiny_model("opt"), "q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias")
    before = copy.deepcopy(model.state_dict())
    record = clip_once(model, 0.01).history[-1]
    assert record.measured.max() > 0.01
    assert torch.equal(record.factors, torch.ones(4, dtype=torch.float64))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("frozen", ["q_proj", "k_proj"])
def test_where_one_of_the_two_is_frozen_the_other_takes_it_all(frozen):
    model = freeze(tiny_model("opt"), f"{frozen}.weight", f"{frozen}.bias")
    projection = model.model.decoder.layers[0].self_attn.get_submodule(frozen)
    before = copy.deepcopy(projection.state_dict())
    assert clip_once(model, 0.5).history[-1].heads_clipped > 0
    assert all(torch.equal(weight, before[name]) for name, weight in projection.state_dict().items())
    assert softmax_maxima(model, tiny_batch()).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("family", "frozen", "message"),
    [
        (
            "llama_gqa",
            "q_proj.weight",
            r"self_attn \(LlamaAttention\) trains part .* its q_proj, which alone could scale",
        ),
        ("opt", "q_proj.weight", r"self_attn.q_proj has a weight and a bias of which one is frozen"),
    ],
)
def test_what_only_frozen_weights_could_scale_is_refused_and_the_model_left_alone(family, frozen, message):
    model = freeze(tiny_model(family), frozen)
    with pytest.raises(ValueError, match=message):
        QKClip(torch.optim.SGD([w for w in model.parameters() if w.requires_grad]), model)
    assert model.config._attn_implementation == "sdpa"


# --- in training -----------------------------------------------------------------------------------------------------


def train(model, optimizer, steps):
    for step in steps:
        backward(model, tiny_batch(seed=step))
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("family", FAMILIES)
def test_below_the_threshold_training_is_the_same_bit_for_bit(family):
    plain, clipped = tiny_model(family), tiny_model(family)
    train(plain, torch.optim.AdamW(plain.parameters(), lr=0.01), range(5))
    optimizer = QKClip(torch.optim.AdamW(clipped.parameters(), lr=0.01), clipped, 1e6)
    train(clipped, optimizer, range(5))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), clipped.parameters(), strict=True))
    assert [record.heads_clipped for record in optimizer.history] == [0] * 5


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
    ],
)
def test_any_optimizer_makes_its_own_step_before_the_clip(make):
    plain, clipped = tiny_model("llama"), tiny_model("llama")
    inner = make(plain.parameters())
    backward(plain, tiny_batch())
    inner.step()
    optimizer = QKClip(make(clipped.parameters()), clipped, 1.0)
    backward(clipped, tiny_batch())
    optimizer.step()
    (gamma,) = optimizer.history[-1].gammas.values()
    assert (gamma < 1).any()
    expected = plain.model.layers[0].self_attn.q_proj.weight.view(4, 4, 16) * gamma.sqrt()[:, None, None]
    torch.testing.assert_close(clipped.model.layers[0].self_attn.q_proj.weight.view(4, 4, 16), expected)
    assert torch.equal(clipped.lm_head.weight, plain.lm_head.weight)


def test_gamma_comes_from_all_forward_passes_since_the_last_step():
    model = tiny_model("llama")
    optimizer = QKClip(still(model), model, 1e6)
    maxima = [softmax_maxima(model, tiny_batch(seed=seed))[0] for seed in (1, 2)]
    for seed in (1, 2):
        backward(model, tiny_batch(seed=seed))
    optimizer.step()
    (logits,) = optimizer.history[-1].max_logits.values()
    torch.testing.assert_close(logits, torch.maximum(*maxima), rtol=1e-14, atol=0)
    backward(model, tiny_batch(seed=1))
    optimizer.step()
    (logits,) = optimizer.history[-1].max_logits.values()
    torch.testing.assert_close(logits, maxima[0], rtol=1e-14, atol=0)


def test_a_step_without_a_forward_pass_is_an_error():
    model = tiny_model("llama")
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.1), model)
    backward(model, tiny_batch())
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"no attention logits were captured in model.layers.0.self_attn"):
        optimizer.step()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())  # nothing has moved


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_copying_is_refused_with_what_to_do(copied):
    with pytest.raises(TypeError, match=r"a QKClip watches its model.*give it this one's state_dict"):
        copied(clip_once(tiny_model("llama"), 100.0))


def test_infinite_logits_are_an_error():
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"self_attn has the maximum logits \[nan"):
        clip_once(model, 100.0)


def test_the_factor_is_one_where_the_largest_logit_is_negative_or_none():
    factors = clip_factors(torch.tensor([250.0, -5.0, 100.0, -torch.inf]), 100.0)
    assert torch.equal(factors, torch.tensor([0.4, 1.0, 1.0, 1.0]))


@pytest.mark.parametrize("trigger", ["max_logit", "norm_bound"])
def test_a_record_has_what_triggers_and_nothing_else(trigger):
    record = clip_once(tiny_model("llama"), 100.0, trigger=trigger).history[-1]
    assert (record.max_logits == {}) is (trigger == "norm_bound")
    assert (record.norm_bounds == {}) is (trigger == "max_logit")


def test_history_of_many_heads_keeps_within_its_bytes(monkeypatch):
    heads = {f"model.layers.{i}.self_attn": 128 for i in range(126)}
    monkeypatch.setattr(clip_record, "KEPT_BYTES", 2**22)
    kept = clip_record.history_of(heads).maxlen
    assert clip_record.history_of({"self_attn": 4}).maxlen == 1 + 2**22 // 2064
    tracemalloc.start()
    history = clip_record.history_of(heads)
    for step in range(3 * kept):
        numbers = torch.zeros(126 * 128)
        history.append(ClipRecord(step, heads, "max_logit", numbers, torch.ones_like(numbers)))
    held = sum(r.measured.nbytes + r.factors.nbytes for r in history) + tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept > 10
    assert held < 2**22 + 8 * 126 * 128 + 2_000
    assert history[-1].step == 3 * kept - 1


def test_every_n_steps_looks_at_each_nth_step_only():
    model = tiny_model("llama")
    optimizer = QKClip(still(model), model, 1e6, every_n_steps=3)
    train(model, optimizer, range(8))
    assert [record.step for record in optimizer.history] == [0, 3, 6]


def test_norm_bound_clips_only_where_it_was_asked_for():
    exact, bound = tiny_model("llama"), tiny_model("llama")
    logits = softmax_maxima(exact, tiny_batch())
    threshold = float(logits.max()) * 1.1
    assert clip_once(exact, threshold).history[-1].heads_clipped == 0
    record = clip_once(bound, threshold, trigger="norm_bound").history[-1]
    assert record.heads_clipped > 0
    assert record.max_logits == {}
    ((before,), (gamma,)) = record.norm_bounds.values(), record.gammas.values()
    torch.testing.assert_close(gamma, (threshold / before).clamp(max=1))


def test_norm_bound_brings_the_bound_to_the_threshold_where_logits_cannot_be_seen():
    config = t.GPTJConfig(vocab_size=13, n_embd=16, n_layer=1, n_head=4, rotary_dim=4, n_positions=16, attn_pdrop=0.0)
    model = t.GPTJForCausalLM(config).double().eval()
    optimizer = QKClip(still(model), model, 1e-6, trigger="norm_bound")
    ids = tiny_batch()["input_ids"]
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    (bounds,) = optimizer.history[-1].norm_bounds.values()
    torch.testing.assert_close(bounds, torch.full_like(bounds, 1e-6), rtol=1e-9, atol=0)


# --- an optimizer like any other -------------------------------------------------------------------------------------


def make_muon(model):
    return MuonClip(model, 0.02, threshold=0.8, every_n_steps=2)


def make_adamw(model):
    return QKClip(torch.optim.AdamW(model.parameters(), lr=0.01), model, 0.8)


@pytest.mark.parametrize("make", [make_muon, make_adamw])
@pytest.mark.parametrize("family", ["llama_gqa", "gpt2", "deepseek_v3"])
def test_a_saved_and_loaded_run_goes_on_bit_for_bit(family, make, tmp_path):
    model = tiny_model(family)
    optimizer = make(model)
    train(model, optimizer, range(4))
    backward(model, tiny_batch(seed=77))  # saved between two micro-batches
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state")
    saved = torch.load(tmp_path / "state", weights_only=True)
    resumed = tiny_model(family, seed=1)
    resumed.load_state_dict(saved["model"])
    other = make(resumed)
    other.load_state_dict(saved["optimizer"])
    for old, new in zip(model.parameters(), resumed.parameters(), strict=True):
        new.grad = old.grad.clone()
    clipped = 0
    for step in range(10):
        train(model, optimizer, [step])
        train(resumed, other, [step])
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))
        clipped += optimizer.history[-1].heads_clipped
    assert clipped > 0
    assert optimizer.steps == other.steps == 14


def test_state_of_an_optimizer_without_clip_is_refused():
    model = tiny_model("llama")
    optimizer = make_adamw(model)
    plain = torch.optim.AdamW(model.parameters(), lr=0.01).state_dict()
    with pytest.raises(ValueError, match="the state has no 'qk_clip'"):
        optimizer.load_state_dict(plain)
    optimizer.optimizer.load_state_dict(plain)


def test_state_of_another_model_is_refused():
    states = make_adamw(tiny_model("llama")).monitor.state_dict()
    with pytest.raises(ValueError, match=r"expected transformer\.h\.0\.attn"):
        make_adamw(tiny_model("gpt2")).monitor.load_state_dict(states)


@pytest.mark.parametrize("make", [make_muon, make_adamw])
def test_schedulers_and_parameter_groups_are_those_of_the_optimizer_inside(make):
    model = tiny_model("llama")
    optimizer = make(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    train(model, optimizer, [0])
    scheduler.step()
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == [rate / 2 for rate in rates]
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    assert optimizer.state is optimizer.optimizer.state
    extra = torch.nn.Parameter(torch.zeros(2))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert optimizer.optimizer.param_groups[-1]["params"] == [extra]
    backward(model, tiny_batch())
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


def test_closure_reaches_the_optimizer_inside():
    model = tiny_model("llama")
    optimizer = QKClip(torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2), model, 100.0)

    def closure():
        optimizer.zero_grad()
        loss = model(**tiny_batch()).logits.square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert optimizer.step(closure=closure) > 0
    assert len(optimizer.history) == 2


def test_what_the_forward_passes_of_a_closure_show_is_clipped_after_the_step():
    plain, clipped = tiny_model("llama"), tiny_model("llama")
    threshold = float(softmax_maxima(plain, tiny_batch()).max()) / 2

    def closure_of(model, optimizer):
        def closure():
            optimizer.zero_grad()
            backward(model, tiny_batch())
            return 0.0

        return closure

    without = torch.optim.SGD(plain.parameters(), lr=0.01)
    optimizer = QKClip(torch.optim.SGD(clipped.parameters(), lr=0.01), clipped, threshold)
    without.step(closure_of(plain, without))
    optimizer.step(closure_of(clipped, optimizer))
    (gamma,) = optimizer.history[-1].gammas.values()
    assert (gamma < 1).any()
    scaled = plain.model.layers[0].self_attn.q_proj.weight.view(4, 4, 16) * gamma.sqrt()[:, None, None]
    torch.testing.assert_close(clipped.model.layers[0].self_attn.q_proj.weight.view(4, 4, 16), scaled)


def test_a_step_that_failed_leaves_nothing_to_the_next():
    class Failing(torch.optim.SGD):
        fails = True

        def step(self, closure=None):
            if self.fails:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model = tiny_model("llama")
    optimizer = QKClip(Failing(model.parameters(), lr=0.0), model, 100.0)
    backward(model, tiny_batch(seed=1))
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    optimizer.optimizer.fails = False
    optimizer.monitor.reset()
    optimizer.step(lambda: backward(model, tiny_batch(seed=2)))
    expected = softmax_maxima(model, tiny_batch(seed=2))[0]
    torch.testing.assert_close(optimizer.history[-1].measured, expected, rtol=1e-14, atol=0)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    # Without momentum: torch 2.13's own goes on from unset memory where the scaler leaves its first step out.
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.01, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


def train_scaled(model, optimizer, stepped, *, unscaled=False):
    """Eight steps under a scale that is too large at first; how many of them the scaler has left out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**128 / 2)
    skipped = 0
    for step in range(8):
        scaler.scale(model(**tiny_batch(seed=step), use_cache=False).logits.logsumexp(dim=-1).sum()).backward()
        if unscaled:
            scaler.unscale_(stepped)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(stepped)
        before = scaler.get_scale()
        scaler.update()
        skipped += scaler.get_scale() < before
        optimizer.zero_grad()
    return skipped


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_under_a_gradient_scaler_below_the_threshold_training_is_the_same_bit_for_bit(make, unscaled):
    plain, clipped = tiny_model("llama").float(), tiny_model("llama").float()
    without = OPTIMIZERS[make](plain.parameters())
    skipped = train_scaled(plain, without, without, unscaled=unscaled)
    optimizer = QKClip(OPTIMIZERS[make](clipped.parameters()), clipped, 1e6)
    assert 0 < skipped == train_scaled(clipped, optimizer, optimizer, unscaled=unscaled) < 7
    assert all(bool(weight.isfinite().all()) for weight in plain.parameters())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), clipped.parameters(), strict=True))
    assert len(optimizer.history) == optimizer.steps == 8 - skipped


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_under_a_gradient_scaler_it_does_not_matter_which_of_the_two_makes_the_step(make):
    outer, inner = tiny_model("llama").float(), tiny_model("llama").float()
    one, other = (QKClip(OPTIMIZERS[make](model.parameters()), model, 0.8) for model in (outer, inner))
    skipped = train_scaled(outer, one, one)
    assert 0 < skipped == train_scaled(inner, other, other.optimizer)
    assert one.steps == other.steps == 8 - skipped
    assert sum(record.heads_clipped for record in one.history) > 0
    # A fused optimizer unscales in its own kernel.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if "AdamW" not in make else {"rtol": 1e-3, "atol": 1e-3}
    for a, b in zip(outer.parameters(), inner.parameters(), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_the_optimizer_inside_clips_when_it_steps_and_when_a_scheduler_has_taken_its_step():
    outer, inner = tiny_model("llama"), tiny_model("llama")
    one, other = make_adamw(outer), make_adamw(inner)
    schedulers = [LambdaLR(one, lambda step: 1 / (1 + step)), LambdaLR(other.optimizer, lambda step: 1 / (1 + step))]
    for step in range(4):
        for model, stepped, scheduler in zip((outer, inner), (one, other.optimizer), schedulers, strict=True):
            train(model, stepped, [step])
            scheduler.step()
    assert sum(record.heads_clipped for record in one.history) > 0
    assert all(torch.equal(a, b) for a, b in zip(outer.parameters(), inner.parameters(), strict=True))
    saved = other.optimizer.state_dict()
    assert saved["qk_clip"]["steps"] == 4
    one.steps = 0
    one.optimizer.load_state_dict(saved)
    assert one.steps == 4


def test_hooks_of_ones_own_run_once_with_either():
    model = tiny_model("llama")
    optimizer = make_adamw(model)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(model, optimizer, [0])
    assert seen == ["before", "after"]


def test_nothing_private_of_the_optimizer_inside_is_answered_for():
    inner = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], fused=True)
    assert inner._step_supports_amp_scaling
    model = tiny_model("llama")
    optimizer = QKClip(torch.optim.AdamW(model.parameters(), fused=True), model)
    assert not hasattr(optimizer, "_step_supports_amp_scaling")
    assert optimizer.defaults is optimizer.optimizer.defaults


def test_a_step_that_only_makes_the_optimizers_state_is_none_of_the_clips():
    model = tiny_model("llama")
    optimizer = make_adamw(model)
    before = copy.deepcopy(model.state_dict())
    get_optimizer_state_dict(model, optimizer.optimizer)  # steps without a forward pass, at rate 0
    assert optimizer.optimizer.state
    assert optimizer.steps == len(optimizer.history) == 0
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    train(model, optimizer, [0])
    assert optimizer.steps == 1


def test_removed_the_optimizer_inside_and_the_model_are_what_they_were():
    plain, model = tiny_model("llama"), tiny_model("llama")
    optimizer = QKClip(torch.optim.AdamW(model.parameters(), lr=0.01), model, 0.1)
    optimizer.remove()
    train(plain, torch.optim.AdamW(plain.parameters(), lr=0.01), range(2))
    train(model, optimizer.optimizer, range(2))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert "qk_clip" not in optimizer.optimizer.state_dict()
    assert model.config._attn_implementation == "sdpa"


def test_a_watched_model_can_be_pickled_and_saved(tmp_path):
    model, batch = tiny_model("llama"), tiny_batch()
    clip_once(model, 1.0)
    other = pickle.loads(pickle.dumps(model))
    assert torch.equal(other(**batch).logits, model(**batch).logits)
    model.save_pretrained(tmp_path)
    assert "max_logits" not in (tmp_path / "config.json").read_text()


def test_muon_clip_is_muon_and_adamw_with_the_clip():
    model = tiny_model("gpt_neox")
    optimizer = MuonClip(model, 0.0, threshold=1.0, adamw_lr=0.0)
    assert [group["rule"] for group in optimizer.param_groups] == ["muon", "adamw"]
    train(model, optimizer, [0])
    assert softmax_maxima(model, tiny_batch(seed=0)).max() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0: expected a number above 0"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"every_n_steps": 0}, "every_n_steps is 0: expected a whole number from 1"),
        ({"trigger": "guess"}, "expected 'max_logit' or 'norm_bound'"),
        ({"trigger": "both"}, "expected 'max_logit' or 'norm_bound'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    model = tiny_model("llama")
    with pytest.raises(ValueError, match=message):
        QKClip(still(model), model, **options)


def test_qk_norm_is_refused_with_the_module_and_the_reason():
    model = t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, **MLP, num_key_value_heads=2, head_dim=4))
    with pytest.raises(ValueError, match=r"model.layers.0.self_attn \(Qwen3Attention\) normalizes queries and keys"):
        QKClip(still(model), model)


def test_with_qk_norm_scaled_weights_change_no_logit():
    model = t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, **MLP, num_key_value_heads=2, head_dim=4, rms_norm_eps=0.0))
    model, batch = model.double().eval(), tiny_batch()
    before = softmax_maxima(model, batch)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(0.5)
    torch.testing.assert_close(softmax_maxima(model, batch), before, rtol=1e-5, atol=0)
