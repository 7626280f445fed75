"""The RL loop: what a step sees, what a rollout costs in staleness, and that it learns."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from hmpo_lib import METHODS, LearnableExponent, Method, Objective, group_advantages, policy_loss
from hmpo_lib.lm import FineTuneConfig, Rollout, fine_tune, load_base_model, rollout_row, training
from hmpo_lib.lm.state import TrainingState
from hmpo_lib.lm.tasks import SUMS, is_worked

SMALL = FineTuneConfig(rollouts=2, prompts=6, group_size=4, max_new_tokens=24)


def run(**changes):
    model, tokenizer = load_base_model()
    keywords = {name: changes.pop(name) for name in ("sample_prompts", "reward_fn") if name in changes}
    return list(fine_tune(model, tokenizer, dataclasses.replace(SMALL, **changes), **keywords))


def numbers(records):
    return [{k: v for k, v in record.metrics.items() if k != "seconds"} for record in records]


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    before = torch.get_rng_state()
    first = run(minibatches=2)
    assert numbers(first) == numbers(run(minibatches=2))
    assert numbers(first) != numbers(run(minibatches=2, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_on_the_first_step_every_ratio_is_1_and_later_they_are_not():
    records = run(minibatches=3, learning_rate=1e-3)
    assert [record.step for record in records] == [0, 1, 2, 0, 1, 2]
    for record in records:
        largest = record.log_ratios.abs().max()
        assert largest < 1e-4 if record.step == 0 else largest > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_at_any_temperature_the_first_ratios_are_1_and_the_model_is_its_own_reference(dtype):
    record = run(temperature=0.5, rollouts=1, kl_coefficient=1.0, dtype=dtype)[0]
    assert record.log_ratios.abs().max() < 1e-4
    assert record.metrics["kl_ref"] == pytest.approx(0, abs=1e-6)


def test_holder_anneals_over_the_rollouts():
    assert [record.p for record in run(method="holder", rollouts=3, minibatches=2)] == [2, 2, 0, 0, -2, -2]


def test_on_policy_the_mean_cannot_matter():
    def gradient_norms(**changes):
        runs = [run(method=Method(Objective(p), "test"), rollouts=1, **changes) for p in (-1.0, 0.0, 1.0)]
        return [records[-1].metrics["gradient_norm"] for records in runs]

    first = gradient_norms()
    assert first[0] > 0
    assert first == pytest.approx([first[0]] * 3, rel=1e-3)
    second = gradient_norms(prompts=12, minibatches=2, learning_rate=1e-3)  # off-policy the comparison tells them apart
    assert abs(second[0] - second[2]) > 1e-2 * second[0] > 0


def test_gradients_left_behind_by_the_caller_do_not_reach_the_first_step():
    model, tokenizer = load_base_model()
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    record = next(fine_tune(model, tokenizer, SMALL, reward_fn=lambda prompt, completion: 0))
    assert record.metrics["gradient_norm"] == 0


def test_a_gradient_that_is_not_finite_stops_the_run_with_a_word_on_what_to_do():
    model, tokenizer = load_base_model()
    records = fine_tune(model, tokenizer, SMALL, reward_fn=lambda prompt, completion: float(is_worked(completion)))
    model.lm_head.register_full_backward_hook(lambda module, inputs, outputs: (torch.full_like(inputs[0], math.inf),))
    with pytest.raises(FloatingPointError, match="at rollout 0, step 0; the offending completion is"):
        next(records)


def test_a_reward_that_is_no_number_is_refused_with_its_prompt_and_answer():
    with pytest.raises(
        FloatingPointError, match=r"reward_fn gave nan for \('1\+2\+3=', .*rollout 0, before its first step"
    ):
        run(
            sample_prompts=lambda count, generator: ["1+2+3="] * count,
            reward_fn=lambda prompt, completion: math.nan,
        )


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (None, "None (NoneType)"),
        ("1", "'1' (str)"),
        ([1.0], "[1.0] (list)"),
        (torch.ones(1), "tensor([1.]) (Tensor)"),
        (1j, "1j (complex)"),
    ],
)
def test_a_reward_of_another_type_or_shape_is_refused_with_its_prompt_and_answer(reward, said):
    pattern = (
        rf"reward_fn gave {re.escape(said)} for \('[\d+]+=', '.*'\) at rollout 0, before its first step: expected one"
    )
    with pytest.raises(ValueError, match=pattern):
        run(reward_fn=lambda prompt, completion: reward)


@pytest.mark.parametrize("reward", [True, 1, torch.tensor(1), np.float32(1), np.array(1.0), np.bool_(True)])
def test_a_reward_may_be_a_number_of_torch_or_numpy(reward):
    record = run(rollouts=1, max_new_tokens=40, reward_fn=lambda prompt, completion: reward)[0]
    assert set(record.rewards.tolist()) <= {0.0, 1.0}
    assert record.metrics["reward_mean"] > 0.5


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyError, KeyboardInterrupt])
def test_what_reward_fn_raises_stays_as_it_is_with_a_note_on_where(kind):
    calls = []

    def reward_fn(prompt, completion):
        calls.append((prompt, completion))
        if len(calls) == 30:  # in the second rollout of 24
            raise kind("in the scorer")
        return 0.0

    with pytest.raises(kind, match="in the scorer") as error:
        run(reward_fn=reward_fn)
    assert error.value.__notes__ == [f"reward_fn raised this for {calls[-1]} at rollout 1, before its first step."]


def test_prompts_that_are_no_strings_are_refused():
    with pytest.raises(ValueError, match=r"sample_prompts gave 7 \(int\): expected strings"):
        run(sample_prompts=lambda count, generator: [7] * count)


def test_a_sampler_that_gives_too_few_prompts_is_refused():
    with pytest.raises(ValueError, match="sample_prompts gave 1 prompts: expected the 6"):
        run(sample_prompts=lambda count, generator: ["1+2+3="])


def test_each_epoch_sees_every_completion_once_and_groups_stay_whole():
    records = run(rollouts=1, prompts=6, minibatches=4, epochs=2)
    assert len(records) == 8
    sizes = [len(record.advantages) for record in records]
    assert sizes == [8, 8, 4, 4] * 2
    for epoch in (records[:4], records[4:]):
        advantages = torch.cat([record.advantages for record in epoch])
        assert len(advantages) == 24
        for record in epoch:
            torch.testing.assert_close(record.advantages.view(-1, 4).mean(1), torch.zeros(len(record.advantages) // 4))


def test_each_epoch_goes_through_the_groups_in_another_order():
    sizes = {"rollouts": 1, "prompts": 8, "epochs": 2, "max_new_tokens": 40}
    first, second = run(**sizes, reward_fn=lambda prompt, completion: len(completion))
    assert sorted(first.advantages.tolist()) == sorted(second.advantages.tolist())
    assert first.advantages.tolist() != second.advantages.tolist()


@pytest.mark.parametrize(("method", "scale"), [("grpo", "std"), ("dr_grpo", "none")])
def test_the_advantages_are_scaled_as_the_method_says(method, scale):
    record = run(method=method, rollouts=1, reward_fn=lambda prompt, completion: len(completion))[0]
    assert record.advantages.any()
    torch.testing.assert_close(record.advantages, group_advantages(record.rewards, 4, scale=scale)[record.rows])


def test_a_truncated_completion_earns_nothing_whatever_it_says():
    records = run(max_new_tokens=1, reward_fn=lambda prompt, completion: 1.0)
    assert records[0].metrics["truncated_fraction"] > 0.9
    assert records[0].metrics["reward_mean"] == pytest.approx(1 - records[0].metrics["truncated_fraction"])


def test_it_learns_to_answer_shortly_when_only_short_answers_pay():
    def short(prompt, completion):
        return float(not is_worked(completion))

    records = run(rollouts=8, prompts=12, group_size=8, max_new_tokens=40, learning_rate=1e-3, reward_fn=short)
    rewards = [record.metrics["reward_mean"] for record in records]
    assert rewards[0] < 0.8
    assert rewards[-1] > 0.95
    assert records[-1].metrics["completion_length_mean"] < 0.7 * records[0].metrics["completion_length_mean"]


def test_a_reward_with_the_sign_turned_is_learned_the_other_way():
    records = run(
        rollouts=8,
        prompts=12,
        group_size=8,
        max_new_tokens=40,
        learning_rate=1e-3,
        reward_fn=lambda prompt, completion: float(is_worked(completion)),
    )
    assert records[-1].metrics["reward_mean"] > records[0].metrics["reward_mean"] + 0.25


def test_equal_rewards_move_nothing():
    model, tokenizer = load_base_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = dataclasses.replace(SMALL, rollouts=1, max_new_tokens=40)
    record = next(fine_tune(model, tokenizer, config, reward_fn=lambda prompt, completion: 0.0))
    assert record.metrics["zero_variance_fraction"] == 1
    assert record.metrics["gradient_norm"] == 0
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_table_runs_off_policy_with_finite_numbers(method):
    for record in run(method=method, minibatches=3, learning_rate=5e-4):
        assert all(math.isfinite(value) for value in record.metrics.values())


def test_a_kl_penalty_holds_the_model_near_its_start():
    def distance(coefficient):  # over three seeds: how far one short run gets is mostly chance
        total = 0.0
        for seed in range(3):
            records = run(rollouts=12, prompts=16, learning_rate=3e-4, kl_coefficient=coefficient, seed=seed)
            assert records[0].metrics["kl_ref"] == pytest.approx(0, abs=1e-6)  # at first the model is the reference
            total += sum(record.metrics["kl_ref"] for record in records[-4:])
        return total

    assert distance(10.0) < 0.7 * distance(1e-9)


def test_without_a_kl_penalty_there_is_no_reference():
    assert "kl_ref" not in run()[0].metrics


def test_a_learnable_exponent_is_moved_by_the_optimizer_and_its_path_is_recorded():
    exponent = LearnableExponent(start=0.0, bound=2.0, learning_rate=0.1)
    method = Method(Objective(None), "test", p_schedule=exponent)
    records = run(method=method, minibatches=2, rollouts=4, learning_rate=1e-3)
    path = [record.p for record in records]
    assert path == [pytest.approx(record.metrics["p"]) for record in records]
    assert path[:2] == pytest.approx([0, 0], abs=1e-3)  # the first step is on-policy: no gradient but rounding
    assert abs(path[-1]) > 1e-2
    assert exponent.drift != 0


def test_a_constant_length_weight_divides_by_the_limit_of_new_tokens():
    assert FineTuneConfig(method="dr_grpo", max_new_tokens=33).resolved_method().objective.max_length == 33
    assert FineTuneConfig(method="luspo", max_new_tokens=33).resolved_method().objective.max_length == 1


def test_a_row_is_the_mean_of_its_steps_or_their_extreme_with_the_seconds_of_the_whole_rollout():
    records = run(rollouts=1, minibatches=3, monitor_logits=True)
    row = rollout_row(records)
    assert row["rollout"] == 0
    assert row["seconds"] == records[-1].metrics["seconds"]
    assert row["gradient_norm"] == pytest.approx(sum(r.metrics["gradient_norm"] for r in records) / 3)
    for name, extreme in {"ratio_min": min, "ratio_max": max, "max_logit": max}.items():
        assert row[name] == extreme(r.metrics[name] for r in records)


def test_the_seconds_are_the_loops_own_and_not_the_consumers(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    model, tokenizer = load_base_model()
    seconds = []
    for record in fine_tune(model, tokenizer, dataclasses.replace(SMALL, rollouts=1, minibatches=3)):
        seconds.append(record.metrics["seconds"])
        for _ in range(100):  # the consumer takes its time
            next(clock)
    assert seconds == [1, 2, 3]


def test_warm_up_rises_over_the_run_and_not_over_each_rollout():
    model, tokenizer = load_base_model()
    config = dataclasses.replace(SMALL, rollouts=3, minibatches=2, warmup_steps=4, learning_rate=4e-4)
    state = TrainingState.start(model, config)
    rates = []
    steps = training._run(state, tokenizer, config, SUMS, None)
    next(steps)  # started, without a record
    for _ in steps:
        rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 4e-4, 4e-4])


def test_each_estimator_of_the_kl_penalty_is_the_one_that_is_asked_for():
    def last(**changes):
        return run(rollouts=2, minibatches=2, learning_rate=1e-3, kl_coefficient=1.0, **changes)[-1].metrics["loss"]

    losses = [last(kl_estimator=estimator) for estimator in ("k1", "k2", "k3", "k3_weighted")]
    assert len({round(loss, 6) for loss in losses}) == 4
    assert last() == losses[1]  # k2 is the default


@pytest.mark.parametrize(
    ("method", "average"),
    [
        ("grpo", lambda tokens, mask: (tokens.sum(dim=1) / mask.sum(dim=1)).mean()),
        ("dapo", lambda tokens, mask: tokens.sum() / mask.sum()),
        ("dr_grpo", lambda tokens, mask: (tokens.sum(dim=1) / SMALL.max_new_tokens).mean()),
        ("luspo", lambda tokens, mask: tokens.sum(dim=1).mean()),
    ],
)
def test_the_kl_penalty_is_averaged_over_tokens_as_the_methods_surrogate_is(method, average):
    record = run(method=method, rollouts=1, minibatches=2, learning_rate=1e-3, kl_coefficient=10.0, **SPREAD)[1]
    log_ratios, mask = record.log_ratios, record.completion_mask  # in the first rollout the sampler is the reference
    objective = dataclasses.replace(SMALL, method=method).resolved_method().objective
    policy = policy_loss(log_ratios, torch.zeros_like(log_ratios), record.advantages, mask, objective).loss
    penalty = average(log_ratios.square() / 2, mask)
    assert penalty > 0
    assert record.metrics["loss"] - float(policy) == pytest.approx(10 * float(penalty), rel=1e-2)


def test_the_gradient_is_scaled_down_to_the_norm_that_is_asked_for():
    def gradient_after(limit):
        model, tokenizer = load_base_model()
        (record,) = fine_tune(model, tokenizer, dataclasses.replace(SMALL, rollouts=1, max_gradient_norm=limit))
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
        return record.metrics["gradient_norm"], float(norm)

    before, after = gradient_after(0.01)
    assert before > 0.02
    assert after == pytest.approx(0.01, rel=1e-3)
    before, after = gradient_after(math.inf)
    assert after == pytest.approx(before, rel=1e-5)


def test_the_share_of_groups_that_are_all_alike_is_counted_by_group():
    answers = iter([1.0] * 4 + [1.0, 0.0, 0.0, 0.0] * 2 + [0.0] * 4 + [1.0] * 4 + [0.0, 1.0] * 2)
    record = run(rollouts=1, reward_fn=lambda prompt, completion: next(answers))[0]
    kept = record.rewards.view(6, 4)
    alike = [len(set(group)) == 1 for group in kept.tolist()]  # truncated answers earn 0, whatever they were to earn
    assert record.metrics["zero_variance_fraction"] == pytest.approx(sum(alike) / 6)
    assert 0 < sum(alike) < 6


def test_weights_in_fewer_bits_are_refused():
    model, tokenizer = load_base_model()
    with pytest.raises(ValueError, match=r"is torch\.bfloat16: expected float32 weights"):
        fine_tune(model.bfloat16(), tokenizer, SMALL)


def test_the_callers_gradient_mode_is_left_as_it_was():
    model, tokenizer = load_base_model()
    with torch.no_grad():
        next(fine_tune(model, tokenizer, SMALL))
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("optimizer", ["muon", "muonclip"])
def test_the_other_optimizers_learn_too(optimizer):
    sizes = {"rollouts": 8, "prompts": 12, "group_size": 8, "max_new_tokens": 40, "learning_rate": 5e-3}
    records = run(**sizes, optimizer=optimizer, reward_fn=lambda prompt, completion: float(not is_worked(completion)))
    assert records[0].metrics["reward_mean"] < 0.8
    assert records[-1].metrics["reward_mean"] > 0.95


def test_qk_clip_far_above_the_logits_changes_nothing_and_far_below_it_clips_every_head():
    plain = run(optimizer="muon", minibatches=2)
    clip = run(optimizer="muonclip", minibatches=2)
    assert [r.metrics["loss"] for r in plain] == [r.metrics["loss"] for r in clip]
    assert [r.metrics["heads_clipped"] for r in clip] == [0] * 4
    low = run(optimizer="muonclip", qk_clip_threshold=1e-3, rollouts=1)
    assert low[0].metrics["heads_clipped"] == 8  # 2 layers of 4 heads


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_the_recorded_logits_are_those_of_the_steps_forward_passes_before_the_step(optimizer):
    records = run(optimizer=optimizer, monitor_logits=True, learning_rate=1e-3)
    assert [len(heads) for heads in records[0].max_logits.values()] == [4, 4]
    for record in records:
        assert record.metrics["max_logit"] == max(float(heads.max()) for heads in record.max_logits.values())
    one, other = run(monitor_logits=True, optimizer=optimizer)[0], records[0]
    for name, heads in one.max_logits.items():
        assert torch.equal(heads, other.max_logits[name])  # before the step: the learning rate has no say yet
    assert records[1].metrics["max_logit"] != records[0].metrics["max_logit"]


def test_watching_the_logits_changes_no_number_and_ends_with_the_run():
    model, tokenizer = load_base_model()
    present = model.config._attn_implementation
    watched = list(fine_tune(model, tokenizer, dataclasses.replace(SMALL, monitor_logits=True)))
    assert model.config._attn_implementation == present
    plain = run()
    for one, other in zip(watched, plain, strict=True):
        assert {k: v for k, v in one.metrics.items() if k not in ("seconds", "max_logit")} == numbers([other])[0]
    assert plain[0].max_logits == {}
    assert "max_logit" not in plain[0].metrics


def test_forward_passes_of_the_caller_between_two_records_are_not_counted():
    def records(look):
        model, tokenizer = load_base_model()
        for record in fine_tune(model, tokenizer, dataclasses.replace(SMALL, optimizer="muonclip")):
            if look:
                model(**tokenizer("(19+19=38,38+19=57)57", return_tensors="pt", return_token_type_ids=False))
            yield record

    assert numbers(records(True)) == numbers(records(False))


def test_what_qk_clip_cannot_do_is_said_at_the_call():
    _, tokenizer = load_base_model()
    config = Qwen3Config(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    with pytest.raises(ValueError, match="normalizes queries and keys"):
        fine_tune(Qwen3ForCausalLM(config).eval(), tokenizer, FineTuneConfig(optimizer="muonclip"))


def test_the_learning_rate_rises_linearly_over_the_warm_up_steps():
    model, _ = load_base_model()
    exponent = LearnableExponent(learning_rate=0.5)
    method = Method(Objective(None), "test", p_schedule=exponent)
    config = dataclasses.replace(SMALL, method=method, warmup_steps=4, learning_rate=1e-3)
    state = TrainingState.start(model, config)
    rates = []
    for step in range(6):
        state.set_learning_rates(step, config.warmup_steps)
        rates.append([group["lr"] for group in state.optimizer.param_groups])
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [first for first, _ in rates] == pytest.approx([1e-3 * factor for factor in expected])
    assert [second for _, second in rates] == pytest.approx([0.5 * factor for factor in expected])


def test_warm_up_makes_the_first_step_smaller_and_the_same_gradient():
    def move(**changes):
        model, tokenizer = load_base_model()
        before = [weight.clone() for weight in model.parameters()]
        record = next(fine_tune(model, tokenizer, dataclasses.replace(SMALL, **changes)))
        moved = [(a - b).detach().norm() for a, b in zip(before, model.parameters(), strict=True)]
        return record.metrics["gradient_norm"], float(torch.stack(moved).norm())

    (norm, full), (same, small) = move(), move(warmup_steps=10)
    assert norm == same
    assert small == pytest.approx(full / 10, rel=1e-2)


@pytest.mark.parametrize("epochs", [1, 2])
def test_in_bfloat16_the_first_ratios_are_exactly_1_and_later_ones_are_not(epochs):
    for record in run(dtype="bfloat16", minibatches=2, epochs=epochs, learning_rate=1e-3):
        largest = record.log_ratios.abs().max()
        assert largest == 0 if record.step == 0 else largest > 0


def test_in_bfloat16_every_ratio_is_exactly_1_as_long_as_the_weights_stay():
    for record in run(dtype="bfloat16", minibatches=2, epochs=2, learning_rate=1e-12):
        assert not record.log_ratios.any()
        assert record.metrics["blocked_fraction"] == 0


def test_in_bfloat16_the_samplers_own_log_probs_would_give_other_ratios(monkeypatch):
    """Why they are computed again: the test above fails without it."""
    monkeypatch.setattr(training, "_recompute_logprobs", lambda model, rollout, minibatches, config: rollout)
    assert run(dtype="bfloat16", rollouts=1)[0].log_ratios.abs().max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_and_every_other_forward_pass_computes_in_the_type_that_is_asked_for(dtype):
    model, tokenizer = load_base_model()
    seen = set()
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    records = fine_tune(model, tokenizer, dataclasses.replace(SMALL, dtype=dtype, kl_coefficient=1.0))
    seen.clear()  # what was tried at the call is no part of the run
    next(records)
    assert seen == {getattr(torch, dtype)}


def test_in_bfloat16_the_weights_and_the_numbers_stay_float32_and_it_learns_to_answer_shortly():
    model, tokenizer = load_base_model()
    sizes = {"rollouts": 8, "prompts": 12, "group_size": 8, "max_new_tokens": 40, "learning_rate": 1e-3}
    config = dataclasses.replace(SMALL, dtype="bfloat16", **sizes)
    records = list(fine_tune(model, tokenizer, config, reward_fn=lambda _, text: float(not is_worked(text))))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert records[0].log_ratios.dtype == torch.float32
    assert records[-1].metrics["reward_mean"] > 0.95


@pytest.mark.parametrize(("device", "moves"), [("cpu", ["cpu"]), (None, [])])
def test_the_model_is_moved_to_the_device_that_is_asked_for(monkeypatch, device, moves):
    model, tokenizer = load_base_model()
    moved = []
    monkeypatch.setattr(model, "to", moved.append)
    fine_tune(model, tokenizer, dataclasses.replace(SMALL, device=device))
    assert moved == moves


def lagged_run(monkeypatch, lag, **changes):
    """The records of a run, and the weights of each rollout's sampler and before each rollout's first step."""
    original, sampled_by, before = training.sample_completions, [], []
    model, tokenizer = load_base_model()

    def weights(policy):
        return torch.cat([weight.detach().flatten() for weight in policy.parameters()])

    def spy(policy, *args, **options):
        sampled_by.append(weights(policy))
        before.append(weights(model))
        return original(policy, *args, **options)

    monkeypatch.setattr(training, "sample_completions", spy)
    config = dataclasses.replace(SMALL, rollouts=5, policy_lag=lag, learning_rate=1e-3, **{**SIZES_OF_LAG, **changes})
    return list(fine_tune(model, tokenizer, config, **SPREAD)), sampled_by, before


SIZES_OF_LAG = {"prompts": 2, "minibatches": 2, "max_new_tokens": 12}


@pytest.mark.parametrize("lag", [0, 1, 2, 9])
def test_the_sampler_is_the_policy_of_so_many_rollouts_ago_and_at_first_that_of_the_start(monkeypatch, lag):
    _, sampled_by, before = lagged_run(monkeypatch, lag)
    assert len(before) == 5
    for rollout, weights in enumerate(sampled_by):
        equal = [torch.equal(weights, other) for other in before]
        assert equal == [index == max(0, rollout - lag) for index in range(5)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_old_log_probs_of_a_lagged_run_are_the_samplers(monkeypatch, dtype):
    records, _, _ = lagged_run(monkeypatch, 2, dtype=dtype)
    largest = [float(record.log_ratios.abs().max()) for record in records if record.step == 0]
    assert largest[0] < 1e-4  # at the start the two are one
    assert min(largest[1:]) > 1e-2
    # Without a lag they are not: so a loop that read them off the policy itself would be found out above.
    records, _, _ = lagged_run(monkeypatch, 0, dtype=dtype)
    assert max(float(record.log_ratios.abs().max()) for record in records if record.step == 0) < 1e-4


def test_in_bfloat16_the_old_log_probs_are_computed_again_with_the_lagged_policy(monkeypatch):
    original, asked = training._recompute_logprobs, []

    def spy(policy, *args):
        asked.append(torch.cat([weight.detach().flatten() for weight in policy.parameters()]))
        return original(policy, *args)

    monkeypatch.setattr(training, "_recompute_logprobs", spy)
    _, sampled_by, _ = lagged_run(monkeypatch, 1, dtype="bfloat16")
    assert all(torch.equal(one, other) for one, other in zip(asked, sampled_by, strict=True))


def gradient_and_record(monkeypatch, **changes):
    """The gradient of a step, not scaled down, and its record; as off-policy as if the sampler had been another."""
    original = training.sample_completions

    def stale(*args, **options):
        rollout = original(*args, **options)
        noise = 0.1 * torch.randn(rollout.logprobs.shape, generator=torch.Generator().manual_seed(0))
        return rollout._replace(logprobs=rollout.logprobs + noise * rollout.completion_mask)

    model, tokenizer = load_base_model()
    config = dataclasses.replace(SMALL, rollouts=1, max_gradient_norm=math.inf, **changes)
    with monkeypatch.context() as patched:
        patched.setattr(training, "sample_completions", stale)
        record = next(fine_tune(model, tokenizer, config, **SPREAD))
    return torch.cat([weight.grad.flatten() for weight in model.parameters()]), record


def batch_schedule(progress, log_ratios, completion_mask, advantages):
    """A p that depends on the minibatch as a whole."""
    return 1 + 20 * float(log_ratios.abs().sum() / completion_mask.sum())


def own(schedule, **cell):
    return lambda: {"method": Method(Objective(None, **cell), "test", p_schedule=schedule())}


@pytest.mark.parametrize(
    "settings",
    [
        *(lambda name=name: {"method": name} for name in ("grpo", "dapo", "dr_grpo", "luspo", "pmpo", "pessimistic")),
        lambda: {"method": "dapo", "kl_coefficient": 0.5, "kl_estimator": "k3_weighted"},
        lambda: {"method": "hmpo", "optimizer": "muonclip", "kl_coefficient": 0.5},
        own(lambda: batch_schedule),
        own(lambda: LearnableExponent(start=0.5, learning_rate=0.1), clip="token", clip_range=(0.8, 1.2)),
    ],
)
@pytest.mark.parametrize("limit", [1, 100, 250])
def test_a_step_in_several_passes_has_the_gradient_and_the_metrics_of_the_whole(monkeypatch, settings, limit):
    whole, one = gradient_and_record(monkeypatch, **settings())
    parts, several = gradient_and_record(monkeypatch, **settings(), max_tokens_per_pass=limit)
    assert whole.norm() > 0
    assert one.log_ratios.std() > 0.05
    assert float((whole - parts).norm() / whole.norm()) < 3e-5  # 1e-6 to 1e-5 were seen
    assert numbers([several])[0] == pytest.approx(numbers([one])[0], rel=1e-4, abs=1e-5)
    torch.testing.assert_close(several.log_ratios, one.log_ratios, rtol=0, atol=2e-5)
    torch.testing.assert_close(torch.as_tensor(several.p), torch.as_tensor(one.p), rtol=0, atol=1e-4)
    torch.testing.assert_close(several.max_logits, one.max_logits)


def test_passes_that_each_had_their_own_normalizer_would_be_found_out(monkeypatch):
    original = training.policy_loss
    whole, _ = gradient_and_record(monkeypatch, method="dapo")
    monkeypatch.setattr(
        training, "policy_loss", lambda *tensors, normalizer, metrics: original(*tensors, metrics=metrics)
    )
    parts, _ = gradient_and_record(monkeypatch, method="dapo", max_tokens_per_pass=100)
    assert float((whole - parts).norm() / whole.norm()) > 0.1


@pytest.mark.parametrize("limit", [1, 40, 100, 10_000])
def test_passes_are_within_their_limit_and_keep_a_group_together_where_it_fits(limit):
    lengths = torch.tensor([5, 5, 5, 5, 30, 30, 30, 30, 1, 1, 1, 1, 9, 9, 9, 9])
    mask = torch.arange(40) < lengths[:, None]
    rollout = Rollout(*[torch.zeros(16, 40)] * 3, mask, *[torch.zeros(16, 40)] * 2, [""] * 16)
    config = dataclasses.replace(SMALL, group_size=4, max_tokens_per_pass=limit)
    passes = training._passes(rollout, torch.arange(16), config)
    assert torch.cat(passes).tolist() == list(range(16))
    for rows in passes:
        assert lengths[rows].sum() <= limit or len(rows) == 1
    for group in range(4):
        holders = [rows for rows in passes if (rows // 4 == group).any()]
        assert len(holders) == 1 or lengths[4 * group : 4 * group + 4].sum() > limit
    sizes = {1: [1] * 16, 40: [4, *[1] * 4, 8], 100: [4, 3, 9], 10_000: [16]}
    assert sorted(map(len, passes)) == sorted(sizes[limit]) or limit in (40, 100)
    assert len(training._passes(rollout, torch.arange(16), SMALL)) == 1


def test_in_bfloat16_the_first_ratios_are_exactly_1_in_several_passes_too():
    records = run(dtype="bfloat16", minibatches=2, learning_rate=1e-3, max_tokens_per_pass=60)
    assert all(not record.log_ratios.any() for record in records if record.step == 0)
    assert all(record.log_ratios.any() for record in records if record.step > 0)


def test_several_passes_hold_fewer_activations_at_a_time():
    def most_alive(**changes):
        model, tokenizer = load_base_model()
        alive, most = 0, 0

        def pack(tensor):
            nonlocal alive, most
            alive += tensor.numel()
            most = max(most, alive)
            return Held(tensor)

        class Held:
            def __init__(self, tensor):
                self.tensor = tensor

            def __del__(self):
                nonlocal alive
                alive -= self.tensor.numel()

        config = dataclasses.replace(SMALL, rollouts=1, prompts=12, max_new_tokens=40, **changes)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
            list(fine_tune(model, tokenizer, config, **SPREAD))
        return most

    assert most_alive(max_tokens_per_pass=150) < 0.4 * most_alive()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_a_step_without_memory_names_the_setting_that_helps(monkeypatch, error):
    def no_memory(*args, **options):
        raise error

    monkeypatch.setattr(training, "token_logprobs", no_memory)
    with pytest.raises(
        torch.OutOfMemoryError, match="max_tokens_per_pass None: expected fewer completion tokens, such"
    ):
        run(rollouts=1)
    error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match=r"^something else$"):
        run(rollouts=1)


def stopped(model, tokenizer, **options):
    """What a run says that stops at its first step, and whether the model's weights are as before."""
    before = [weight.clone() for weight in model.parameters()]
    records = fine_tune(model, tokenizer, dataclasses.replace(SMALL, rollouts=1), **options)
    with pytest.raises(FloatingPointError) as error:
        next(records)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return str(error.value)


SPREAD = {"reward_fn": lambda prompt, completion: float(len(completion))}


def longest_of(texts):
    """The row of the longest text."""
    return max(range(len(texts)), key=lambda row: len(texts[row]))


@pytest.mark.parametrize(
    ("fault", "harm"),
    [
        ("a log-probability is not finite", lambda logprobs, row: logprobs.where(~row, math.nan)),
        ("the gradient's norm is ", lambda logprobs, row: with_gradient(logprobs, row, math.inf)),
        ("the gradient's norm is ", lambda logprobs, row: with_gradient(logprobs, row, math.nan)),
    ],
)
def test_the_completion_that_is_not_finite_is_named(monkeypatch, fault, harm):
    original, guilty = training.token_logprobs, []

    def broken(policy, part, **options):
        if len(part.texts) > 1:  # the whole minibatch, before its rows are looked at one by one
            guilty.append(part.texts[longest_of(part.texts)])
        row = torch.tensor([text == guilty[0] for text in part.texts])
        return harm(original(policy, part, **options), row[:, None])

    monkeypatch.setattr(training, "token_logprobs", broken)
    message = stopped(*load_base_model(), **SPREAD)
    assert message.startswith(fault)
    assert f"at rollout 0, step 0; the offending completion is {guilty[0]!r}, to the prompt " in message


def with_gradient(logprobs, row, value):
    """The same numbers, with a gradient of ``value`` on the given row."""
    logprobs = logprobs * 1
    if row.any():
        logprobs.register_hook(lambda gradient: gradient.where(~row, value))
    return logprobs


def test_the_completion_whose_loss_is_not_finite_is_named(monkeypatch):
    original = training.sample_completions
    guilty = []

    def far_away(*args, **options):
        rollout = original(*args, **options)
        longest = longest_of(rollout.texts)
        guilty.append((rollout.texts[longest], args[2][longest // 4]))
        rollout.logprobs[longest] -= 1000.0  # a ratio of e^1000, which overflows
        return rollout

    monkeypatch.setattr(training, "sample_completions", far_away)
    message = stopped(*load_base_model(), **SPREAD)  # the longest is truncated and gets 0: A < 0, which no clip holds
    assert message.startswith("the loss is ")
    assert f"the offending completion is {guilty[0][0]!r}, to the prompt {guilty[0][1]!r}" in message


def test_a_broken_model_stops_the_run_before_its_first_step():
    model, tokenizer = load_base_model()
    model.model.norm.weight.data.fill_(math.inf)
    records = fine_tune(model, tokenizer, SMALL)
    with pytest.raises(FloatingPointError, match="sampler's is not finite at rollout 0, before its first step"):
        next(records)


def test_where_answers_earn_less_than_0_a_truncated_one_earns_what_it_would():
    config = dataclasses.replace(SMALL, rollouts=1, max_new_tokens=4)
    for sign in (-1.0, 1.0):
        model, tokenizer = load_base_model()
        record = next(fine_tune(model, tokenizer, config, reward_fn=lambda prompt, completion, sign=sign: sign))
        kept = 1.0 if sign < 0 else 1 - record.metrics["truncated_fraction"]
        assert 0 < record.metrics["truncated_fraction"] < 1
        assert record.metrics["reward_mean"] == pytest.approx(sign * kept)
