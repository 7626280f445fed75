"""On a GPU the library computes what it computes on a CPU: run `pytest tests/test_cuda.py` where there is one."""

import copy
import dataclasses
import os
import warnings

# Before cuBLAS starts, which reads it once: without it no product of matrices repeats its bits (torch's own rule).
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM

from hmpo_lib import (
    METHODS,
    LearnableExponent,
    Method,
    Objective,
    group_advantages,
    kl_penalty,
    log_power_mean,
    policy_loss,
    power_mean,
    power_mean_weights,
)
from hmpo_lib.cli import cli
from hmpo_lib.lm import (
    Checkpoints,
    FineTuneConfig,
    fine_tune,
    load_base_model,
    make_tokenizer,
    sample_completions,
    token_logprobs,
)
from hmpo_lib.lm.logprobs import _body_and_head
from hmpo_lib.lm.model import make_model
from hmpo_lib.lm.pretrain import pretrain
from hmpo_lib.optim import MaxLogitMonitor, MuonClip, QKClip

from .tiny_models import MODELS, backward, tiny_batch, tiny_model

if not torch.cuda.is_available():
    pytest.skip("there is no GPU that torch can use", allow_module_level=True)

DEVICE = "cuda"
pytestmark = [
    # torch's own, of its compiler; and of parts of a step that repeat their bits only in its deterministic mode.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*TensorFloat32:UserWarning"),
    pytest.mark.filterwarnings("ignore:tl.where with a non-boolean condition:UserWarning"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
]

BATCH, TIME = 8, 40


def batch(dtype=torch.float64):
    """Log-probabilities with nan and inf where masked, a completion without tokens, and one with A = 0."""
    generator = torch.Generator().manual_seed(0)
    old = -2 * torch.rand(BATCH, TIME, generator=generator, dtype=torch.float64)
    new = old + 0.5 * torch.randn(BATCH, TIME, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.5, -0.5, 0.0, -1.0, 0.7, 0.3, -2.0, 1.0], dtype=torch.float64)
    mask = torch.arange(TIME) < torch.tensor([40, 1, 17, 30, 0, 39, 25, 8]).unsqueeze(1)
    new[~mask], old[~mask] = torch.nan, -torch.inf
    return [x.to(dtype) if x.is_floating_point() else x for x in (new, old, advantages, mask)]


def step_objectives():
    """Those of the published methods, in a step of this batch."""
    new, old, advantages, mask = batch()
    log_ratios = torch.where(mask, new - old, 0.0)
    methods = {name: method.with_max_length(TIME) for name, method in METHODS.items()}
    return {name: method.step_objective(0.3, log_ratios, mask, advantages) for name, method in methods.items()}


OBJECTIVES = {
    **step_objectives(),
    "p=-inf": Objective(-torch.inf),
    "p=inf": Objective(torch.inf),
    "p=1e-7": Objective(1e-7, length_weight="proportional"),
    "p=-2, capped": Objective(-2.0, ratio_cap=3.0),
    "p for each": Objective(torch.linspace(-2, 2, BATCH, dtype=torch.float64)),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6}


def on(device, objective):
    if isinstance(objective.p, torch.Tensor):
        return dataclasses.replace(objective, p=objective.p.to(device))
    return objective


def loss_on(device, objective, dtype, **settings):
    """Loss, gradient and metrics, on the CPU."""
    new, old, advantages, mask = (x.to(device) for x in batch(dtype))
    new.requires_grad_()
    loss, metrics = policy_loss(new, old, advantages, mask, on(device, objective), **settings)
    loss.backward()
    assert loss.device.type == torch.device(device).type
    return loss.detach().cpu(), new.grad.cpu(), {name: value.cpu() for name, value in metrics.items()}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_its_gradient_and_its_metrics_are_those_of_the_cpu(name, dtype):
    objective = OBJECTIVES[name]
    for settings in ({"metrics": True}, {"normalizer": 5.0}, {"normalizer": torch.tensor(5.0)}):
        got = loss_on(
            DEVICE,
            objective,
            dtype,
            **{k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in settings.items()},
        )
        torch.testing.assert_close(
            got, loss_on("cpu", objective, dtype, **settings), rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype]
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_as_on_the_cpu(dtype):
    got, expected = (loss_on(device, OBJECTIVES["hmpo"], dtype, metrics=True) for device in (DEVICE, "cpu"))
    assert got[0].dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-3)  # the gradient is in half precision
    torch.testing.assert_close(got[0], expected[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_loss(dtype):
    plain = loss_on(DEVICE, OBJECTIVES["hmpo"], torch.float32, metrics=True)
    with torch.autocast(DEVICE, dtype):
        torch.testing.assert_close(loss_on(DEVICE, OBJECTIVES["hmpo"], torch.float32, metrics=True), plain)


@pytest.mark.parametrize("p", [-torch.inf, -3.0, -1.0, -1e-9, 0.0, 1e-7, 1.0, 40.0, torch.inf])
def test_power_means_their_weights_and_slopes_are_those_of_the_cpu(p):
    results = []
    for device in (DEVICE, "cpu"):
        log_x = batch()[0].to(device).requires_grad_()
        exponent = torch.tensor(p, dtype=torch.float64, device=device, requires_grad=True)
        mask = batch()[3].to(device)
        mean = log_power_mean(log_x, exponent, mask)
        mean.sum().backward()
        weights = power_mean_weights(log_x.detach(), p, mask)
        positive = power_mean(log_x.detach().exp().nan_to_num(1.0), p, mask)
        results.append([x.detach().cpu() for x in (mean, log_x.grad, exponent.grad, weights, positive)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_weighted"])
def test_kl_penalties_and_advantages_are_those_of_the_cpu(estimator):
    results = []
    for device in (DEVICE, "cpu"):
        new, old, advantages, mask = (x.to(device) for x in batch())
        new.requires_grad_()
        penalty = kl_penalty(new, old, mask, estimator=estimator, old_logprobs=old)
        penalty.backward()
        results.append([x.detach().cpu() for x in (penalty, new.grad, group_advantages(advantages, 4))])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_a_batch_without_tokens_has_loss_0_and_a_gradient_of_zeros():
    new, old, advantages, mask = (x.to(DEVICE) for x in batch())
    new.requires_grad_()
    with pytest.raises(ValueError, match="no true entry"):
        policy_loss(new, old, advantages, torch.zeros_like(mask), Objective(0.0))
    loss = policy_loss(new, old, advantages, torch.zeros_like(mask), Objective(0.0), normalizer=3.0).loss
    loss.backward()
    assert loss == 0
    assert (new.grad == 0).all()


@pytest.mark.parametrize("moved", range(4))
def test_tensors_on_two_devices_are_refused_with_both_names(moved):
    tensors = [x if index == moved else x.to(DEVICE) for index, x in enumerate(batch())]
    with pytest.raises(ValueError, match=r"cuda:0.*expected one device") as error:
        policy_loss(*tensors, Objective(0.0))
    assert "cpu" in str(error.value)


def waits_of(work):
    """How often the program waits for the GPU, by torch's own account."""
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            result = work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in seen), result


@pytest.mark.parametrize(("settings", "most"), [({}, 4), ({"normalizer": 3.0}, 3)])
@pytest.mark.parametrize("p", [-1.0, 0.0])
def test_the_loss_waits_for_the_gpu_four_times_and_its_gradient_never(p, settings, most):
    new, old, advantages, mask = (x.to(DEVICE) for x in batch())
    new.requires_grad_()
    objective = Objective(p, "sequence", (0.8, 1.25))
    policy_loss(new, old, advantages, mask, objective, **settings).loss.backward()
    waits, result = waits_of(lambda: policy_loss(new, old, advantages, mask, objective, **settings))
    assert 0 < waits <= most
    try:
        torch.cuda.set_sync_debug_mode("error")
        result.loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["hmpo", "gmpo", "p for each"])
def test_torch_compile_gives_the_same_loss_and_gradient_in_one_graph(name):
    torch.compiler.reset()
    objective = on(DEVICE, OBJECTIVES[name])
    new, old, advantages, mask = (x.to(DEVICE) for x in batch(torch.float32))
    leaf = new.clone().requires_grad_()
    compiled = torch.compile(lambda x: policy_loss(x, old, advantages, mask, objective).loss, fullgraph=True)
    loss = compiled(leaf)
    loss.backward()
    expected = loss_on(DEVICE, objective, torch.float32)
    torch.testing.assert_close((loss.detach().cpu(), leaf.grad.cpu()), expected[:2], rtol=1e-5, atol=1e-6)


# --- the language model ----------------------------------------------------------------------------------------------

SMALL = FineTuneConfig(rollouts=2, prompts=6, group_size=4, max_new_tokens=24, minibatches=2, device=DEVICE)


@pytest.fixture
def deterministic():
    """torch's mode in which every operation repeats its bits."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(folder=None, resume_from=None, stop=None, **changes):
    model, tokenizer = load_base_model()
    config = dataclasses.replace(SMALL, **changes)
    checkpoints = None if folder is None else Checkpoints(folder, every=1)
    records = []
    for record in fine_tune(model, tokenizer, config, checkpoints=checkpoints, resume_from=resume_from):
        records.append(record)
        if stop is not None and record.rollout == stop:
            break
    return records, model


def numbers(records):
    return [{k: v for k, v in record.metrics.items() if k != "seconds"} for record in records]


def tolerance(family):
    """Of a model in float64: transformers makes rotations in float32 whatever the weights are."""
    return {"rtol": 1e-9, "atol": 1e-11} if family in ("gpt2", "opt") else {"rtol": 1e-5, "atol": 2e-6}


@pytest.mark.parametrize("family", sorted(MODELS))
def test_log_probabilities_and_their_gradients_are_those_of_the_cpu(family):
    results = []
    tokenizer, base = load_base_model()[1], load_base_model()[0].to(DEVICE)
    rollout = sample_completions(base, tokenizer, ["1+2=", "7+12+5="], group_size=3, max_new_tokens=8)
    for device in (DEVICE, "cpu"):
        model = tiny_model(family).to(device)
        moved = rollout._replace(
            **{
                name: (x % 13 if x.dtype == torch.long else x).to(device)
                for name, x in rollout._asdict().items()
                if isinstance(x, torch.Tensor)
            }
        )
        logprobs = token_logprobs(model, moved)
        logprobs.sum().backward()
        results.append([logprobs.detach().cpu(), *(weight.grad.cpu() for weight in model.parameters())])
    torch.testing.assert_close(*results, **tolerance(family))


def test_the_head_of_the_shipped_model_stays_apart():
    model, _ = load_base_model()
    _, head = _body_and_head(model.to(DEVICE), torch.tensor([[3, 4]], device=DEVICE))
    assert head is model.get_output_embeddings()


def test_the_same_generator_samples_the_same_completions():
    model, tokenizer = load_base_model()
    model.to(DEVICE)
    first, second, other = (
        sample_completions(
            model,
            tokenizer,
            ["1+2+3=", "7+12+5="],
            group_size=4,
            max_new_tokens=24,
            generator=torch.Generator(DEVICE).manual_seed(seed),
        )
        for seed in (0, 0, 1)
    )
    assert first.texts == second.texts
    assert torch.equal(first.logprobs, second.logprobs)
    assert first.texts != other.texts
    # What was sampled has the log-probabilities that the CPU computes.
    cpu = first._replace(**{k: v.cpu() for k, v in first._asdict().items() if isinstance(v, torch.Tensor)})
    torch.testing.assert_close(cpu.logprobs, token_logprobs(model.cpu(), cpu), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "holder"},
        {"method": "pmpo", "max_tokens_per_pass": 60},
        {"method": "pessimistic", "kl_coefficient": 0.1, "kl_estimator": "k3_weighted"},
        {"method": Method(Objective(None), p_schedule=LearnableExponent(start=-0.5))},
        {"optimizer": "muon", "monitor_logits": True},
        {"optimizer": "muonclip", "qk_clip_threshold": 0.5},
        {"policy_lag": 1, "rollouts": 3},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "max_tokens_per_pass": 60, "optimizer": "muonclip"},
    ],
    ids=str,
)
def test_a_run_on_the_gpu_starts_at_ratios_of_1_and_leaves_records_on_the_cpu(changes):
    records, model = run(**changes)
    assert model.device.type == DEVICE
    assert records[0].log_ratios.abs().max() < 1e-4
    assert records[-1].log_ratios.abs().max() > 1e-6
    for record in records:
        assert all(x.device.type == "cpu" for x in record if isinstance(x, torch.Tensor))
        assert all(heads.device.type == "cpu" for heads in record.max_logits.values())
    assert any(record.metrics["gradient_norm"] > 0 for record in records)  # none where all of a group earn the same
    if changes.get("optimizer") == "muonclip" and "qk_clip_threshold" in changes:
        assert sum(record.metrics["heads_clipped"] for record in records) > 0


def test_several_passes_have_the_gradient_of_one():
    whole, parts = run(rollouts=1)[0], run(rollouts=1, max_tokens_per_pass=60)[0]
    assert parts[0].metrics["gradient_norm"] == pytest.approx(whole[0].metrics["gradient_norm"], rel=1e-4)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("changes", [{}, {"optimizer": "muonclip"}, {"dtype": "bfloat16"}], ids=str)
def test_in_torchs_deterministic_mode_the_same_seed_gives_the_same_run(changes):
    assert numbers(run(**changes)[0]) == numbers(run(**changes)[0])


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_in_torchs_deterministic_mode_a_resumed_run_goes_on_bit_for_bit(optimizer, tmp_path):
    changes = {"rollouts": 3, "policy_lag": 1, "kl_coefficient": 0.1, "optimizer": optimizer}
    records, model = run(**changes)
    run(tmp_path, stop=2, **changes)
    rest, resumed = run(tmp_path, resume_from=tmp_path / "000001", **changes)
    assert numbers(rest) == numbers(records[2:])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_of_the_gpu_is_read_on_a_cpu_and_goes_on_only_where_it_was(tmp_path):
    _, model = run(tmp_path)
    latest = Checkpoints(tmp_path).latest()
    weights = load_file(latest / "model.safetensors", device="cpu")
    on_cpu = {name: weight.cpu() for name, weight in model.state_dict().items()}
    assert all(torch.equal(weight, on_cpu[name]) for name, weight in weights.items())
    with pytest.raises(ValueError, match=r"device is 'cpu', and .* is of a run with 'cuda'"):
        run(tmp_path, resume_from=latest, device="cpu")
    with pytest.raises(ValueError, match="device"):  # where the model is: another place than before
        run(tmp_path, resume_from=latest, device=None)


def test_a_run_that_began_where_the_model_was_is_told_that_it_is_elsewhere_now(tmp_path):
    base, tokenizer = load_base_model()
    config = dataclasses.replace(SMALL, device=None, rollouts=2)
    list(fine_tune(base.to(DEVICE), tokenizer, config, checkpoints=Checkpoints(tmp_path, every=1)))
    with pytest.raises(ValueError, match=r"expected one of .*cpu|not what a run of these settings writes"):
        fine_tune(load_base_model()[0], tokenizer, config, resume_from=tmp_path / "000001")


def test_pretraining_goes_where_the_model_is():
    model = make_model(0).to(DEVICE)
    losses = [record["loss"] for record in pretrain(model, make_tokenizer(), steps=8, batch_size=16)]
    other = make_model(0)
    expected = [record["loss"] for record in pretrain(other, make_tokenizer(), steps=8, batch_size=16)]
    assert losses[0] == pytest.approx(expected[0], rel=1e-5)
    assert losses[-1] < losses[0]


def test_the_command_line_trains_on_the_gpu_and_resumes(tmp_path):
    out = tmp_path / "run"
    options = [
        "--rollouts",
        "2",
        "--prompts",
        "4",
        "--group-size",
        "4",
        "--checkpoint-every",
        "1",
        "--minibatches",
        "2",
    ]
    done = CliRunner().invoke(cli, ["fine-tune", "--method", "hmpo", "--device", DEVICE, "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(cli, ["resume", str(out / "checkpoints" / "000001")])
    assert again.exit_code == 0, again.output
    assert load_file(out / "model" / "model.safetensors")


# --- QK-Clip ---------------------------------------------------------------------------------------------------------


def clipped_on(device, family, make, dtype=torch.float64):
    """Maxima and weights after two steps with a clip, on the CPU."""
    model = tiny_model(family).to(device=device, dtype=dtype)
    moved = {name: x.to(device) for name, x in tiny_batch().items()}
    optimizer = make(model)
    for _ in range(2):
        optimizer.zero_grad()
        backward(model, moved)
        optimizer.step()
    maxima = torch.stack([record.measured for record in optimizer.history])
    assert maxima.device.type == "cpu"
    return [maxima, *(weight.detach().cpu() for weight in model.parameters())], optimizer


@pytest.mark.parametrize("family", sorted(MODELS))
def test_maxima_and_clipped_weights_are_those_of_the_cpu(family):
    def make(model):
        return QKClip(torch.optim.SGD(model.parameters(), lr=0.01), model, 0.2)

    (got, optimizer), (expected, _) = (clipped_on(device, family, make) for device in (DEVICE, "cpu"))
    assert sum(record.heads_clipped for record in optimizer.history) > 0
    torch.testing.assert_close(got, expected, **tolerance(family))


@pytest.mark.parametrize(
    "make",
    [
        lambda model: MuonClip(model, 0.01, threshold=2.0),
        lambda model: MuonClip(model, 0.01, threshold=2.0, per_head=True),
        lambda model: QKClip(
            torch.optim.Muon([w for w in model.model.layers.parameters() if w.dim() == 2], lr=0.01), model, 2.0
        ),
    ],
    ids=["MuonClip", "MuonClip per head", "torch's Muon"],
)
def test_muon_with_the_clip_is_that_of_the_cpu_to_the_rounding_of_its_bfloat16(make):
    (got, optimizer), (expected, _) = (clipped_on(device, "llama", make, torch.float32) for device in (DEVICE, "cpu"))
    assert sum(record.heads_clipped for record in optimizer.history) > 0
    torch.testing.assert_close(got, expected, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_gradient_scaler_a_step_that_is_left_out_clips_nothing(fused):
    model = tiny_model("llama").to(device=DEVICE, dtype=torch.float32)
    optimizer = QKClip(torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused), model, 1.0)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**127, growth_interval=10**6)
    moved = {name: x.to(DEVICE) for name, x in tiny_batch().items()}
    made = 0
    for _ in range(130):
        before = [weight.detach().clone() for weight in model.parameters()]
        with torch.autocast(DEVICE, torch.float16):
            loss = model(**moved, use_cache=False).logits.float().logsumexp(dim=-1).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        left_out = scaler.get_scale() < scale
        made += not left_out
        assert len(optimizer.history) == optimizer.steps == made
        same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert same == left_out
        optimizer.zero_grad()
        if made == 3:
            break
    assert made == 3
    assert sum(record.heads_clipped for record in optimizer.history) > 0


def half_llama(dtype):
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).to(device=DEVICE, dtype=dtype).eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]
)
def test_whatever_attention_sdpa_takes_the_maxima_are_those_of_eager_attention(backend, dtype):
    model = half_llama(dtype)
    ids = torch.randint(50, (2, 64), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    seen = []
    softmax = torch.nn.functional.softmax

    def record(logits, *args, **options):
        seen.append(logits.detach().amax(dim=(0, 2, 3)).float())
        return softmax(logits, *args, **options)

    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    torch.nn.functional.softmax = record
    try:
        plain(input_ids=ids, use_cache=False)
    finally:
        torch.nn.functional.softmax = softmax
    unwatched = copy.deepcopy(model)
    monitor = MaxLogitMonitor(model, measure="max_logit")
    with sdpa_kernel(backend):
        output = model(input_ids=ids, use_cache=False).logits
        output.float().logsumexp(dim=-1).sum().backward()
        assert torch.equal(output, unwatched(input_ids=ids, use_cache=False).logits)
    got = torch.stack(list(monitor.max_logits().values()))
    torch.testing.assert_close(got, torch.stack(seen), rtol=0.03, atol=0.03)  # later layers have other inputs


def test_half_precision_weights_meet_the_threshold_after_the_clip():
    model = half_llama(torch.bfloat16)
    ids = torch.randint(50, (2, 64), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.0), model, 3.0)
    for _ in range(2):
        model(input_ids=ids, use_cache=False).logits.float().logsumexp(dim=-1).sum().backward()
        optimizer.step()
    first, second = optimizer.history
    assert (first.measured > 4).any()
    assert second.measured[:4].max() < 3.0 * 1.02  # the first layer, whose inputs are the same


def test_a_step_with_the_clip_waits_no_more_than_a_few_times_whatever_the_layers():
    waits = []
    for layers in (1, 4):
        config = LlamaConfig(
            vocab_size=20, hidden_size=32, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=4
        )
        model = LlamaForCausalLM(config).to(DEVICE).eval()
        optimizer = QKClip(torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True), model, 100.0)
        ids = torch.arange(20, device=DEVICE)[None]

        def step(model=model, optimizer=optimizer, ids=ids):
            model(input_ids=ids, use_cache=False).logits.logsumexp(dim=-1).sum().backward()
            optimizer.step()

        step()
        waits.append(waits_of(step)[0])
    assert waits[0] == waits[1]
    assert waits[0] <= 6


@pytest.mark.parametrize("measure", ["max_logit", "norm_bound"])
def test_a_state_that_was_saved_between_two_micro_batches_is_taken_up_on_another_device(measure):
    model = tiny_model("llama")
    optimizer = QKClip(torch.optim.AdamW(model.parameters(), lr=0.01), model, 2.0, trigger=measure)
    backward(model, tiny_batch(seed=1))
    saved = copy.deepcopy(optimizer.state_dict())
    moved = tiny_model("llama").to(DEVICE)
    other = QKClip(torch.optim.AdamW(moved.parameters(), lr=0.01), moved, 2.0, trigger=measure)
    other.load_state_dict(saved)
    backward(model, tiny_batch(seed=2))
    backward(moved, {name: x.to(DEVICE) for name, x in tiny_batch(seed=2).items()})
    optimizer.step()
    other.step()
    torch.testing.assert_close(other.history[-1].measured, optimizer.history[-1].measured, **tolerance("llama"))
