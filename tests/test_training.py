"""The RL loop: what a step sees, what a rollout costs in staleness, and that it learns."""

import dataclasses
import math

import pytest
import torch

from hmpo_lib import METHODS, LearnableExponent, Method, Objective
from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model, rollout_row
from hmpo_lib.lm.tasks import is_worked

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


def test_at_any_temperature_the_first_ratios_are_1():
    assert run(temperature=0.5, rollouts=1)[0].log_ratios.abs().max() < 1e-4


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
    with pytest.raises(FloatingPointError, match="at rollout 0, step 0: lower the learning rate"):
        next(records)


def test_a_reward_that_is_no_number_is_refused_with_its_prompt_and_answer():
    with pytest.raises(ValueError, match=r"reward_fn gave nan for \('1\+2\+3=', .*expected finite rewards"):
        run(
            sample_prompts=lambda count, generator: ["1+2+3="] * count,
            reward_fn=lambda prompt, completion: math.nan,
        )


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
    def distance(coefficient):
        records = run(rollouts=12, learning_rate=3e-4, kl_coefficient=coefficient)
        assert records[0].metrics["kl_ref"] == pytest.approx(0, abs=1e-6)  # at first the model is the reference
        return sum(record.metrics["kl_ref"] for record in records[-4:])

    assert distance(10.0) < 0.7 * distance(1e-9)


def test_without_a_kl_penalty_there_is_no_reference():
    assert "kl_ref" not in run()[0].metrics


def test_a_learnable_exponent_is_moved_by_the_optimizer_and_its_path_is_recorded():
    exponent = LearnableExponent(start=0.0, bound=2.0, learning_rate=0.1)
    method = Method(Objective(0.0), "test", p_schedule=exponent)
    records = run(method=method, minibatches=2, rollouts=4, learning_rate=1e-3)
    path = [record.p for record in records]
    assert path == [pytest.approx(record.metrics["p"]) for record in records]
    assert path[:2] == pytest.approx([0, 0], abs=1e-3)  # the first step is on-policy: no gradient but rounding
    assert abs(path[-1]) > 1e-2
    assert exponent.drift != 0


def test_a_constant_length_weight_divides_by_the_limit_of_new_tokens():
    assert FineTuneConfig(method="dr_grpo", max_new_tokens=33).resolved_method().objective.max_length == 33
    assert FineTuneConfig(method="luspo", max_new_tokens=33).resolved_method().objective.max_length == 1


def test_a_row_is_the_mean_of_its_steps_with_the_seconds_of_the_whole_rollout():
    records = run(rollouts=1, minibatches=3)
    row = rollout_row(records)
    assert row["rollout"] == 0
    assert row["seconds"] == records[-1].metrics["seconds"]
    assert row["gradient_norm"] == pytest.approx(sum(r.metrics["gradient_norm"] for r in records) / 3)
    assert row["ratio_max"] == max(r.metrics["ratio_max"] for r in records)


def test_the_callers_gradient_mode_is_left_as_it_was():
    model, tokenizer = load_base_model()
    with torch.no_grad():
        next(fine_tune(model, tokenizer, SMALL))
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ppo"}, "unknown method 'ppo': expected one of grpo, "),
        ({"rollouts": 0}, "rollouts is 0"),
        ({"minibatches": 33}, "minibatches is 33 with prompts 32"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FineTuneConfig(**changes)
