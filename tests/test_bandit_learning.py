"""Learning curves: exact rewards, seeds that do not touch each other, sampling that follows the policy."""

import dataclasses

import pytest
import torch

from hmpo_lib import METHODS, LearnableExponent, Method, Objective
from hmpo_lib.bandit_learning import (
    draw_rewards,
    exact_rewards,
    learn,
    reward_table,
    sample_sequences,
    sampled_gradients,
)
from hmpo_lib.bandits import (
    bernoulli_bandit,
    expected_reward,
    gradient_statistics,
    sequence_bandit,
    sequence_probabilities,
)


def world(**changes):
    def reward(x, mask):
        return ((x == 0) * mask).sum(dim=1).double() + (x[:, 0] == 2)

    return sequence_bandit(reward, **{"tokens": 3, "length": 4, **changes})


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("contexts", [1, 3])
def test_rewards_of_many_policies_are_the_enumerated_ones(ends, contexts):
    bandit = world(ends=ends)
    logits = torch.randn(5, 4, contexts, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([expected_reward(bandit, own) for own in logits])
    torch.testing.assert_close(exact_rewards(reward_table(bandit).double(), logits), expected)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("contexts", [1, 3])
def test_samples_follow_the_policy(ends, contexts):
    bandit = world(ends=ends, length=3)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, contexts, 3, generator=generator)
    count = 40_000
    sequences = sample_sequences(bandit, logits, torch.rand(2, count, 3, generator=generator))
    powers = 3 ** torch.arange(2, -1, -1)
    for own, sampled in zip(logits, sequences, strict=True):
        rows = bandit.rows[(sampled * powers).sum(-1)]
        frequencies = torch.bincount(rows, minlength=len(bandit.sequences)) / count
        probabilities = sequence_probabilities(bandit, own)
        error = (probabilities * (1 - probabilities) / count).sqrt()
        assert ((frequencies - probabilities).abs() <= 4.5 * error + 1e-6).all()


def test_a_risk_comes_true_as_often_as_it_says():
    bandit = bernoulli_bandit([0.2, 0.9])
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(2))
    for arm, chance in ((0, 0.2), (1, 0.9)):
        earned = draw_rewards(bandit, torch.full((20_000, 1), arm), uniforms)
        assert earned.unique().tolist() == [0, 1]
        assert earned.mean().item() == pytest.approx(chance, abs=0.015)


METHODS_HERE = {name: METHODS[name] for name in ("grpo", "gspo", "hmpo", "pmpo", "pessimistic", "dapo", "luspo")}


def test_a_seeds_curve_is_the_same_bit_by_bit_whatever_runs_beside_it():
    many = learn(world(), METHODS_HERE, seeds=range(9), steps=6, minibatches=3, batch=16)
    few = learn(world(), {"hmpo": METHODS["hmpo"]}, seeds=[4, 7], steps=6, minibatches=3, batch=16)
    place = list(METHODS_HERE).index("hmpo")
    assert torch.equal(many.expected_reward[place, [4, 7]], few.expected_reward[0])
    assert torch.equal(many.logits[place, [4, 7]], few.logits[0])
    assert not torch.equal(many.expected_reward[place, 4], many.expected_reward[place, 5])


def test_a_seed_means_the_same_numbers_whatever_the_default_dtype():
    few = {"hmpo": METHODS["hmpo"]}
    first = learn(world(), few, seeds=[3], steps=4, minibatches=2, batch=16)
    torch.set_default_dtype(torch.float64)
    try:
        second = learn(world(), few, seeds=[3], steps=4, minibatches=2, batch=16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(first.expected_reward, second.expected_reward)


def test_proportional_length_weights_are_relative_to_the_seeds_own_mean_length():
    few = {"dapo": METHODS["dapo"]}
    many = learn(world(ends=True), few, seeds=range(5), steps=4, batch=8)
    alone = learn(world(ends=True), few, seeds=[3], steps=4, batch=8)
    assert torch.equal(many.logits[0, 3], alone.logits[0, 0])


def test_a_schedule_is_told_how_far_the_run_is():
    seen = []

    def schedule(progress, log_ratios, completion_mask, advantages):
        seen.append(progress)
        return 0.0

    learn(world(), {"watched": Method(Objective(None), "test", p_schedule=schedule)}, seeds=[0], steps=5)
    assert seen == [0, 0.25, 0.5, 0.75, 1]


def test_every_method_improves_and_starts_at_the_exact_reward_of_its_start():
    bandit = world(ends=True)
    curves = learn(bandit, METHODS_HERE, seeds=range(4), steps=30, batch=32, minibatches=2, learning_rate=2.0)
    start = expected_reward(bandit, torch.zeros(4, 1, 3)).item()
    assert curves.expected_reward.shape == (len(METHODS_HERE), 4, 31)
    torch.testing.assert_close(curves.expected_reward[..., 0], torch.full((len(METHODS_HERE), 4), start))
    assert (curves.expected_reward[..., -1].mean(dim=1) > start).all()


def test_a_reward_with_its_sign_turned_is_learned_the_other_way():
    bandit = world()
    turned = dataclasses.replace(bandit, rewards=-bandit.rewards)
    up, down = (learn(w, {"grpo": METHODS["grpo"]}, seeds=[0], steps=20).expected_reward for w in (bandit, turned))
    assert up[0, 0, -1] > up[0, 0, 0]
    assert -down[0, 0, -1] < -down[0, 0, 0]


def test_on_the_first_step_of_each_rollout_no_ratio_has_moved_and_no_mean_matters():
    curves = learn(world(), METHODS_HERE, seeds=range(2), steps=6, minibatches=3, batch=16)
    assert (curves.log_ratio_spread[..., [0, 3]] < 1e-6).all()
    assert (curves.log_ratio_spread[..., 1] > 1e-3).all()
    by_name = dict(zip(METHODS_HERE, curves.expected_reward, strict=True))
    torch.testing.assert_close(by_name["grpo"][:, 1], by_name["hmpo"][:, 1])
    assert not torch.allclose(by_name["grpo"][:, -1], by_name["hmpo"][:, -1], rtol=1e-6)


@pytest.mark.parametrize("name", ["grpo", "hmpo"])
def test_sampled_gradients_agree_with_the_exact_one_where_there_is_one(name):
    bandit = world()
    generator = torch.Generator().manual_seed(3)
    old = torch.randn(4, 1, 3, generator=generator, dtype=torch.float64)
    new = old + 0.2 * torch.randn(4, 1, 3, generator=generator, dtype=torch.float64)
    method = dataclasses.replace(METHODS[name], advantage_scale="none")
    batch, seeds = 256, range(200)
    samples = sampled_gradients(bandit, method, new, old, seeds=seeds, batch=batch)
    exact = gradient_statistics(bandit, new, old, method.objective)
    error = samples.std(dim=0) / len(seeds) ** 0.5
    # The batch's own mean reward for a baseline shrinks the gradient by 1 − 1/batch.
    assert ((samples.mean(dim=0) - (1 - 1 / batch) * exact.expected).abs() <= 4 * error + 1e-6).all()
    assert ((samples.mean(dim=0) + exact.expected).abs() > 4 * error).any()  # a flipped sign would be seen
    normalized = sampled_gradients(bandit, METHODS[name], new, old, seeds=seeds, batch=batch)
    assert not torch.allclose(normalized.mean(dim=0), samples.mean(dim=0), rtol=0.05)


def test_a_policy_that_cannot_end_later_learns_from_finite_numbers():
    start = torch.tensor([[[0.3, 0.3, 0.4]], [[0.5, 0.5, 0.0]], [[0.2, 0.3, 0.5]], [[0.2, 0.3, 0.5]]]).log()
    curves = learn(world(ends=True), METHODS_HERE, seeds=[0], steps=4, minibatches=2, start_logits=start)
    assert curves.expected_reward.isfinite().all()
    assert curves.log_ratio_spread.isfinite().all()


def test_policies_may_look_at_the_token_before():
    def alternating(x, mask):
        return (x[:, 1:] != x[:, :-1]).sum(dim=1).double()

    bandit = sequence_bandit(alternating, tokens=2, length=5)
    method = {"grpo": METHODS["grpo"]}
    table = torch.zeros(5, 2, 2)
    looking = learn(bandit, method, seeds=range(3), steps=80, start_logits=table, learning_rate=5.0)
    assert looking.expected_reward[0, :, -1].min() > 3.5


def test_a_learnable_exponent_is_refused_with_a_word_on_where_it_works():
    method = Method(Objective(None), "test", p_schedule=LearnableExponent())
    with pytest.raises(ValueError, match="fine_tune"):
        learn(world(), {"learned": method}, seeds=[0], steps=1)


@pytest.mark.parametrize("wrong", [{"seeds": []}, {"steps": 0}, {"batch": 0}, {"minibatches": 0}])
def test_nothing_to_do_is_refused(wrong):
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        learn(world(), METHODS_HERE, **{"seeds": [0], **wrong})


def test_each_seed_can_have_a_learning_rate_of_its_own():
    alone = [
        learn(world(), {"hmpo": METHODS["hmpo"]}, seeds=[3], steps=5, batch=8, learning_rate=r) for r in (0.5, 4.0)
    ]
    rates = torch.tensor([0.5, 4.0])
    both = learn(world(), {"hmpo": METHODS["hmpo"]}, seeds=[3, 3], steps=5, batch=8, learning_rate=rates)
    for k, one in enumerate(alone):
        assert torch.equal(both.logits[0, k], one.logits[0, 0])
    with pytest.raises(ValueError, match="3 learning rates for 2 seeds"):
        learn(world(), {"hmpo": METHODS["hmpo"]}, seeds=[3, 4], learning_rate=torch.ones(3))


def test_advantages_can_be_ones_own():
    method = Method(Objective(0.0), "test")
    settings = {"seeds": range(3), "steps": 4, "minibatches": 2, "batch": 8}
    shapes = []

    def divided(rewards):
        shapes.append(tuple(rewards.shape))
        return (rewards - rewards.mean(dim=1, keepdim=True)) / rewards.std(dim=1, keepdim=True)

    own = learn(world(), {"own": method}, advantages_fn=divided, **settings)
    torch.testing.assert_close(own.logits, learn(world(), {"own": method}, **settings).logits)
    assert shapes == [(3, 16)] * 2  # a row a seed, a rollout each time
    raw = learn(world(), {"own": method}, advantages_fn=lambda rewards: rewards, **settings)
    assert not torch.allclose(own.logits, raw.logits, atol=1e-2)
