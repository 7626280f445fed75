"""The trainer's loss and gradient are TRL's own for the objectives that TRL has, and ours for the others."""

import dataclasses
import math

import pytest
import torch

from hmpo_lib import METHODS, Objective, policy_loss

from .trl_tiny import arguments, inputs, loss_and_gradient, trainer

pytest.importorskip("trl", reason="needs TRL: run `make oracles`", exc_type=ImportError)
# TRL asks transformers for settings that are to be renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

UNCAPPED = 1e30  # TRL's own losses have no cap by default
LOSS_TYPES = {"equal": "grpo", "proportional": "dapo", "constant": "dr_grpo"}
RANGES = {"token": (0.8, 1.2), "sequence": (0.95, 1.05)}
# TRL 1.16 computes log-probabilities in float32 whatever the model's type, in blocks of the vocabulary.
NEAR = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def theirs():
    return trainer(loss_type="grpo")


@pytest.fixture(scope="module")
def ours():
    return trainer({"objective": "hmpo"})


@pytest.fixture
def learn(ours, theirs, monkeypatch):
    """Gives both trainers one setting."""

    def both(name, value, where=""):
        for made in (ours, theirs):
            monkeypatch.setattr(made.args if where == "args" else made, name, value)

    return both


def with_objective(ours, monkeypatch, objective, loss_type=None):
    """The module's trainer with another objective."""
    from hmpo_lib import Method

    monkeypatch.setattr(ours, "method", Method(objective) if isinstance(objective, Objective) else objective)
    monkeypatch.setattr(ours, "loss_type", loss_type or LOSS_TYPES[ours.method.objective.length_weight])


def as_trls(ours, theirs, monkeypatch, weight, level, cap=UNCAPPED):
    """The same objective for both."""
    lo, hi = RANGES[level]
    length = theirs.max_completion_length if weight == "constant" else None
    p = {"token": 1.0, "sequence": 0.0}[level]
    with_objective(ours, monkeypatch, Objective(p, level, (lo, hi), weight, length, cap))
    monkeypatch.setattr(theirs, "loss_type", LOSS_TYPES[weight])
    monkeypatch.setattr(theirs, "importance_sampling_level", level)
    monkeypatch.setattr(theirs, "epsilon_low", 1 - lo)
    monkeypatch.setattr(theirs, "epsilon_high", hi - 1)
    monkeypatch.setattr(theirs.args, "delta", None if cap == UNCAPPED else cap)


def assert_same(a, b):
    torch.testing.assert_close(a[0], b[0], **NEAR)
    distance = torch.linalg.vector_norm(a[1] - b[1])
    assert float(distance) <= 1e-5 * float(torch.linalg.vector_norm(b[1]))
    assert bool(b[1].any())


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("steps_per_generation", [1, 2])
@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("weight", LOSS_TYPES)
def test_loss_and_gradient_are_trls_own(
    ours, theirs, learn, monkeypatch, weight, level, accumulation, stale, steps_per_generation, beta
):
    as_trls(ours, theirs, monkeypatch, weight, level)
    learn("beta", beta)
    # TRL corrects a KL term by the ratio of "token" or "sequence", as its clip has it; ours by the token's, where that
    # is right: see the test below.
    learn("use_bias_correction_kl", level == "token", "args")
    learn("current_gradient_accumulation_steps", accumulation)
    learn("steps_per_generation", steps_per_generation, "args")
    batch = inputs(theirs)
    if not stale:  # as TRL does where each generation is learned from once
        del batch["old_per_token_logps"]
    assert_same(loss_and_gradient(ours, batch), loss_and_gradient(theirs, batch))


@pytest.mark.parametrize("weight", LOSS_TYPES)
def test_the_loss_of_evaluation_is_trls_own(ours, theirs, learn, monkeypatch, weight):
    as_trls(ours, theirs, monkeypatch, weight, "token")
    learn("current_gradient_accumulation_steps", 4)
    batch = inputs(theirs)
    for made in (ours, theirs):
        made.model.eval()
    try:
        assert_same(loss_and_gradient(ours, batch), loss_and_gradient(theirs, batch))
        assert any(name.startswith("hmpo/") for name in ours._metrics["eval"])
    finally:
        for made in (ours, theirs):
            made.model.train()


@pytest.mark.parametrize("setting", ["tool_mask", "vllm", "off_policy_mask", "delta"])
@pytest.mark.parametrize("level", RANGES)
def test_what_trl_folds_into_its_loss_is_folded_into_ours(ours, theirs, learn, monkeypatch, setting, level):
    as_trls(ours, theirs, monkeypatch, "equal", level, cap=1.3 if setting == "delta" else UNCAPPED)
    batch = inputs(theirs)
    plain = loss_and_gradient(ours, batch)
    if setting == "tool_mask":
        batch["tool_mask"] = (torch.arange(12) % 3 != 1).long().expand(8, 12)
    elif setting == "vllm":
        learn("use_vllm", True)
        learn("vllm_importance_sampling_correction", True)
        batch["importance_sampling_ratio"] = torch.linspace(0.0, 2.0, 8).unsqueeze(1)
        batch["sampling_per_token_logps"] = batch["old_per_token_logps"] + 0.1
    elif setting == "off_policy_mask":
        learn("off_policy_mask_threshold", 0.05)
        batch["advantages"] = -batch["advantages"].abs() - 0.1
        batch["old_per_token_logps"][4:] += 0.5  # far from the policy: left out
    assert_same(loss_and_gradient(ours, batch), loss_and_gradient(theirs, batch))
    if setting != "delta":
        assert not torch.allclose(loss_and_gradient(ours, batch)[1], plain[1], rtol=1e-2)


def test_another_length_weight_or_exponent_is_told_from_trls(ours, theirs, monkeypatch):
    as_trls(ours, theirs, monkeypatch, "equal", "sequence")
    batch = inputs(theirs)
    expected = loss_and_gradient(theirs, batch)
    assert_same(loss_and_gradient(ours, batch), expected)
    for change in ({"p": -1.0}, {"length_weight": "proportional"}):
        with_objective(ours, monkeypatch, dataclasses.replace(ours.method.objective, **change), "grpo")
        with pytest.raises(AssertionError):
            assert_same(loss_and_gradient(ours, batch), expected)
        as_trls(ours, theirs, monkeypatch, "equal", "sequence")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_policy_loss_of_the_models_logprobs(ours, monkeypatch, name):
    method = METHODS[name].with_max_length(12)
    with_objective(ours, monkeypatch, method)
    batch = inputs(ours)
    with torch.no_grad():
        loss = ours._compute_loss(ours.model, batch)
        ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], 1) for x in ("ids", "mask"))
        logprobs = ours._get_per_token_logps_and_entropies(ours.model, ids, mask, 12)[0]
    old, mask, advantages = batch["old_per_token_logps"], batch["completion_mask"], batch["advantages"]
    cell = method.step_objective(0.0, (logprobs - old) * mask, mask, advantages)
    torch.testing.assert_close(loss, policy_loss(logprobs, old, advantages, mask, cell).loss, rtol=1e-5, atol=1e-6)


def test_a_schedule_follows_the_trainers_progress(ours, monkeypatch):
    seen = []

    def schedule(progress, log_ratios, completion_mask, advantages):
        seen.append(progress)
        return 2 - 4 * progress

    holder = dataclasses.replace(METHODS["holder"], p_schedule=schedule)
    with_objective(ours, monkeypatch, holder)
    monkeypatch.setattr(ours.state, "max_steps", 5)
    batch = inputs(ours)
    losses = []
    for step in range(5):
        monkeypatch.setattr(ours.state, "global_step", step)
        losses.append(loss_and_gradient(ours, batch)[0])
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(set(map(float, losses))) == 5


def test_the_kl_term_is_corrected_by_the_tokens_ratios_whatever_the_clip(ours, theirs, learn, monkeypatch):
    learn("beta", 0.04)
    as_trls(ours, theirs, monkeypatch, "equal", "sequence")
    batch = inputs(theirs)
    batch["advantages"] = torch.zeros_like(batch["advantages"])  # the KL term alone
    own = loss_and_gradient(ours, batch)
    as_trls(ours, theirs, monkeypatch, "equal", "token")
    assert_same(own, loss_and_gradient(theirs, batch))


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_ratios_that_overflow_leave_the_loss_finite(ours, theirs, learn, monkeypatch, beta):
    as_trls(ours, theirs, monkeypatch, "equal", "token")
    learn("beta", beta)
    learn("use_bias_correction_kl", False, "args")  # corrected by an infinite ratio, TRL's KL term is infinite
    batch = inputs(theirs)
    batch["advantages"] = batch["advantages"].abs()
    batch["old_per_token_logps"][:, 0] -= 200.0  # e^200 is infinite in float32, and 0 · inf is nan
    loss, gradient = loss_and_gradient(ours, batch)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


def test_bad_completions_have_a_cap_by_default():
    from hmpo_lib.integrations.trl import RATIO_CAP

    made = trainer({"objective": Objective(1.0, "token", (0.8, 1.2))})
    assert made.method.objective.ratio_cap == RATIO_CAP
    batch = inputs(made)
    batch["advantages"] = -batch["advantages"].abs() - 1
    batch["old_per_token_logps"][:, 0] -= 200.0
    assert all(bool(x.isfinite().all()) for x in loss_and_gradient(made, batch))
    uncapped = trainer({"objective": Objective(1.0, "token", (0.8, 1.2), ratio_cap=math.exp(80))})
    assert uncapped.method.objective.ratio_cap == math.exp(80)
    assert float(loss_and_gradient(uncapped, batch)[0]) > 1e30


@pytest.mark.parametrize("weight", LOSS_TYPES)
def test_a_batch_without_tokens_has_loss_0_and_a_graph(ours, monkeypatch, weight):
    length = 12 if weight == "constant" else None
    with_objective(ours, monkeypatch, Objective(-1.0, length_weight=weight, max_length=length))
    batch = inputs(ours)
    batch["completion_mask"] = torch.zeros_like(batch["completion_mask"])
    loss, gradient = loss_and_gradient(ours, batch)
    assert loss == 0
    assert not bool(gradient.any())


def test_our_metrics_stand_in_place_of_trls(ours, theirs, monkeypatch):
    as_trls(ours, theirs, monkeypatch, "equal", "token")
    batch = inputs(theirs)
    for made in (ours, theirs):
        made._metrics["train"].clear()
        loss_and_gradient(made, batch)
    logged = ours._metrics["train"]
    assert {"clip_ratio/low_mean", "entropy"} <= theirs._metrics["train"].keys()
    assert not any(name.startswith("clip_ratio") for name in logged)
    assert logged["entropy"] == theirs._metrics["train"]["entropy"]
    low, high = (theirs._metrics["train"][f"clip_ratio/{side}_mean"] for side in ("low", "high"))
    assert logged["hmpo/clip_fraction_low"] == pytest.approx(low)
    assert logged["hmpo/clip_fraction_high"] == pytest.approx(high)
    assert all(math.isfinite(numbers[0]) for name, numbers in logged.items() if name.startswith("hmpo/"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.3),
        ("epsilon_high", 0.28),
        ("delta", 2.0),
        ("loss_type", "cispo"),
        ("importance_sampling_level", "sequence"),
        ("top_entropy_quantile", 0.2),
    ],
)
def test_a_setting_of_trls_own_policy_loss_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value!r}: expected TRL's default"):
        trainer({"objective": "hmpo"}, **{name: value})


def test_weights_of_vllm_for_single_tokens_are_refused():
    with pytest.raises(ValueError, match="vllm_importance_sampling_mode is 'token_truncate'"):
        trainer({"objective": "hmpo"}, use_vllm=True, vllm_importance_sampling_mode="token_truncate")


def test_an_unknown_method_and_a_learnable_exponent_are_refused():
    from hmpo_lib import LearnableExponent, Method

    with pytest.raises(ValueError, match="unknown method 'ppo'"):
        trainer({"objective": "ppo"})
    learned = Method(Objective(None), p_schedule=LearnableExponent())
    with pytest.raises(ValueError, match="LearnableExponent, whose parameter no optimizer of TRL knows"):
        trainer({"objective": learned})


def test_arguments_are_taken_by_position_and_stay_the_callers_own(tmp_path):
    given = arguments(str(tmp_path))
    before = given.to_dict()
    made = trainer({"objective": "dr_grpo"}, folder=str(tmp_path))  # passes them by position
    assert (made.args.scale_rewards, made.loss_type) == ("none", "dr_grpo")
    assert made.method.objective.max_length == made.max_completion_length
    from datasets import Dataset

    from hmpo_lib.integrations.trl import PowerMeanGRPOTrainer

    for objective in ("dr_grpo", "luspo"):  # the second would refuse what the first had left behind
        other = PowerMeanGRPOTrainer(
            made.model,
            [lambda completions, **_: [0.0] * len(completions)],
            given,
            Dataset.from_dict({"prompt": ["1+1="] * 4}),
            processing_class=made.processing_class,
            objective=objective,
        )
    assert other.loss_type == "luspo"
    assert given.to_dict() == before


def test_a_trl_whose_loss_scores_otherwise_is_named(ours, monkeypatch):
    import trl

    batch = inputs(ours)
    monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", lambda self, model, inputs: torch.zeros(()))
    with pytest.raises(RuntimeError, match=f"_compute_loss of TRL {trl.__version__} made 0 passes"):
        ours._compute_loss(ours.model, batch)


def test_training_generates_learns_logs_and_clips(tmp_path):
    made = trainer(
        {"objective": "hmpo", "qk_clip_threshold": 1.0},
        folder=str(tmp_path),
        logging_strategy="steps",
        logging_steps=1,
        num_iterations=2,
        max_steps=2,
        gradient_checkpointing=True,  # TRL's default
    )
    before = torch.cat([weight.detach().flatten().clone() for weight in made.model.parameters()])
    made.train()
    after = torch.cat([weight.detach().flatten() for weight in made.model.parameters()])
    assert not torch.equal(before, after)
    assert made.qk_clip.history[-1].heads_clipped > 0
    first, second = [line for line in made.state.log_history if "hmpo/ratio_max" in line]
    assert first["hmpo/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert second["hmpo/ratio_max"] > 1.0001  # the second pass over the same completions is stale


def test_a_resumed_run_ends_where_an_unbroken_one_does_with_the_clips_state(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    own = {"objective": "hmpo", "qk_clip_threshold": 2.0}
    whole = trainer(own, folder=str(tmp_path), **settings)
    whole.train()
    resumed = trainer(own, folder=str(tmp_path), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert resumed.qk_clip.steps == whole.qk_clip.steps == 4
    assert any(record.heads_clipped for record in whole.qk_clip.history)
