"""How p changes: annealed, by the sign of the advantage, solved for a target, learned."""

import dataclasses
import math

import pytest
import torch
from scipy.optimize import brentq

from hmpo_lib import METHODS, LearnableExponent, Objective, policy_loss

DOUBLE = torch.float64


def batch(spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    log_ratios = spread * torch.randn(8, 20, generator=generator, dtype=DOUBLE)
    lengths = torch.tensor([20, 13, 5, 2, 1, 17, 8, 3])
    mask = torch.arange(20) < lengths[:, None]
    advantages = torch.tensor([1.0, -1.0, 2.0, -0.1, 1.0, -2.0, 0.0, 3.0], dtype=DOUBLE)
    return log_ratios, mask, advantages


def losses(log_ratios, mask, advantages, objective):
    return policy_loss(log_ratios, torch.zeros_like(log_ratios), advantages, mask, objective)


def test_holder_anneals_from_2_to_minus_2():
    schedule = METHODS["holder"].p_schedule
    assert [schedule(x, torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1)) for x in (0, 0.5, 1)] == [2, 0, -2]


def test_pessimistic_is_the_smallest_surrogate_within_its_exponents():
    log_ratios, mask, advantages = batch()
    p = METHODS["pessimistic"].p_schedule(0.0, log_ratios, mask, advantages)
    loss = losses(log_ratios, mask, advantages, Objective(p)).loss
    others = [losses(log_ratios, mask, advantages, Objective(q)).loss for q in torch.linspace(-1, 1, 41).tolist()]
    assert loss >= max(others) - 1e-12


def test_pmpo_is_arithmetic_without_clips_and_geometric_where_all_is_clipped():
    schedule = METHODS["pmpo"].p_schedule
    log_ratios = torch.tensor([[0.05, -0.1, 0.1], [0.5, 0.4, 0.3], [-0.5, -0.4, -0.6], [0.5, 0.4, 0.3]], dtype=DOUBLE)
    p = schedule(0.0, log_ratios, torch.ones(4, 3), torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=DOUBLE))
    assert p.tolist() == [1, 0, 0, 1]  # a bad completion's high ratios are not clipped


def test_pmpo_meets_its_target_as_a_root_finder_does():
    log_ratios, mask, advantages = batch()
    lo, hi = METHODS["pmpo"].objective.clip_range
    found = METHODS["pmpo"].p_schedule(0.0, log_ratios, mask, advantages)
    solved = 0
    for row in range(len(mask)):
        d = log_ratios[row][mask[row]]
        heard = d.clamp(max=math.log(hi)) if advantages[row] > 0 else d
        heard = d.clamp(min=math.log(lo)) if advantages[row] < 0 else heard
        clipped = (heard != d).double().mean().item()

        def count(p, heard=heard):
            weights = (p * heard).softmax(0)
            return 1 / (weights**2).sum().item()

        target = (1 - clipped) * count(1.0) + clipped * len(d)
        if 0 < clipped < 1:
            solved += 1
            assert found[row].item() == pytest.approx(brentq(lambda p: count(p) - target, 0, 1), abs=1e-6)  # noqa: B023
        else:
            assert found[row] == (0 if clipped == 1 else 1)
    assert solved >= 4


def test_pmpo_never_leaves_its_interval_and_ignores_the_padding():
    log_ratios, mask, advantages = batch(spread=30.0)
    schedule = METHODS["pmpo"].p_schedule
    p = schedule(0.0, log_ratios, mask, advantages)
    assert ((p >= 0) & (p <= 1)).all()
    padded = torch.where(mask, log_ratios, torch.nan)
    assert torch.equal(schedule(0.0, padded, mask, advantages), p)


def test_the_learned_exponent_ascends_the_surrogate_of_good_and_descends_that_of_bad_completions():
    log_ratios, mask, _ = batch()
    for sign in (1.0, -1.0):
        exponent = LearnableExponent(start=0.5, bound=2.0)
        advantages = torch.full((8,), sign, dtype=DOUBLE)
        optimizer = torch.optim.SGD(exponent.parameters(), lr=1.0)
        for _ in range(3):
            optimizer.zero_grad()
            p = exponent(0.0, log_ratios, mask, advantages)
            losses(log_ratios, mask, advantages, Objective(p)).loss.backward()
            optimizer.step()
        assert math.copysign(1, exponent.drift) == sign
        assert exponent.drift == pytest.approx(exponent.p - 0.5)


def test_the_learned_exponent_has_no_gradient_on_policy():
    _, mask, advantages = batch()
    exponent = LearnableExponent()
    on_policy = torch.zeros(8, 20, dtype=DOUBLE)
    losses(on_policy, mask, advantages, Objective(exponent(0.0, on_policy, mask, advantages))).loss.backward()
    assert exponent.theta.grad.item() == 0


def test_the_learned_exponent_stays_inside_its_bound():
    log_ratios, mask, _ = batch(spread=1.0)
    exponent = LearnableExponent(start=0.0, bound=1.5)
    optimizer = torch.optim.AdamW(exponent.parameters(), lr=10.0)
    for _ in range(20):
        optimizer.zero_grad()
        p = exponent(0.0, log_ratios, mask, torch.ones(8))
        losses(log_ratios, mask, torch.ones(8, dtype=DOUBLE), Objective(p)).loss.backward()
        optimizer.step()
        assert abs(exponent.p) <= 1.5
    assert exponent.p > 1.4


@pytest.mark.parametrize("start", [2.0, -3.0, math.nan])
def test_a_start_outside_the_bound_is_refused(start):
    with pytest.raises(ValueError, match="strictly inside"):
        LearnableExponent(start=start, bound=2.0)


def test_the_learned_exponent_gives_the_loss_of_the_same_constant():
    log_ratios, mask, advantages = batch()
    exponent = LearnableExponent(start=-1.0)
    learned = dataclasses.replace(
        METHODS["hmpo"].objective, p=exponent(0.0, log_ratios, mask, advantages).detach().double()
    )
    torch.testing.assert_close(
        losses(log_ratios, mask, advantages, learned).loss,
        losses(log_ratios, mask, advantages, METHODS["hmpo"].objective).loss,
        rtol=1e-6,
        atol=0,
    )
