"""Group advantages: the formula, and the groups on which the formula breaks."""

import itertools
import math

import pytest
import torch

from hmpo_lib import group_advantages


def test_each_group_has_mean_0_and_unbiased_std_1():
    rewards = torch.rand(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = group_advantages(rewards, 8).view(3, 8)
    torch.testing.assert_close(groups.mean(dim=1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(groups.std(dim=1, correction=1), torch.ones(3, dtype=torch.float64))


def test_without_scaling_they_are_differences_from_the_baseline():
    rewards = torch.tensor([1.0, 0.0, 0.5])
    assert group_advantages(rewards, 3, scale="none").tolist() == [0.5, -0.5, 0.0]
    left_out = group_advantages(rewards, 3, scale="none", baseline="leave_one_out")
    assert left_out.tolist() == pytest.approx([1 - 0.25, -0.75, 0.0])


def test_equal_rewards_give_exactly_0_although_their_float32_std_is_not():
    rewards = torch.full((8,), 0.1)
    assert rewards.std() > 0  # the trap: dividing by it gives advantages of about -0.9
    assert group_advantages(rewards, 8).tolist() == [0.0] * 8


VARIANTS = list(itertools.product(("std", "none"), ("mean", "leave_one_out"), (torch.float32, torch.float64)))


@pytest.mark.parametrize(("scale", "baseline", "dtype"), VARIANTS)
def test_rewards_that_are_equal_up_to_rounding_are_equal(scale, baseline, dtype):
    def one(x):
        return torch.tensor(x, dtype=dtype)

    nearly = one(0.3).nextafter(one(1.0))
    orders = one(0.1) + one(0.1) + one(0.5), one(0.5) + one(0.1) + one(0.1)
    cancelled = one(0.1) + one(0.2) - one(0.3)
    for offset in (0.0, 1e6, -1e6):
        groups = [
            torch.stack([one(0.3), one(0.3), one(0.3), nearly]),
            torch.stack([orders[0], orders[0], orders[1], orders[1]]),
            torch.stack([cancelled, one(0.0), one(0.0), -cancelled]),
            torch.stack([one(0.7), one(0.7), one(0.7), one(0.7).nextafter(one(0.0))]),
        ]
        rewards = torch.cat(groups) + offset
        rewards[-1] = rewards[-2].nextafter(one(torch.inf))  # a rounding of the large number too
        assert (rewards.view(4, 4).amax(1) > rewards.view(4, 4).amin(1)).any()
        assert group_advantages(rewards, 4, scale=scale, baseline=baseline).tolist() == [0.0] * 16


@pytest.mark.parametrize(("scale", "baseline", "dtype"), VARIANTS)
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_each_groups_advantages_sum_to_0_and_an_offset_changes_nothing(scale, baseline, dtype, offset):
    generator = torch.Generator().manual_seed(1)
    # Quarters, which a float32 near a million can still tell apart.
    rewards = torch.randint(0, 9, (4096,), generator=generator).to(dtype) / 4
    kind = {"scale": scale, "baseline": baseline}
    found = group_advantages(rewards + offset, 8, **kind).view(-1, 8)
    limit = 2 * 8 * torch.finfo(dtype).eps * found.abs().amax(dim=1)
    assert (found.sum(dim=1).abs() <= limit).all()
    torch.testing.assert_close(found.flatten(), group_advantages(rewards, 8, **kind))


@pytest.mark.parametrize(("scale", "baseline", "dtype"), VARIANTS)
def test_rewards_that_differ_by_little_but_more_than_rounding_differ(scale, baseline, dtype):
    one_right = torch.tensor([1, 0, 0, 0], dtype=dtype)
    expected = group_advantages(one_right, 4, scale=scale, baseline=baseline)
    for size, offset in ((1e-6, 0.0), (1.0, 1e6), (1e30, 0.0)):
        found = group_advantages(size * one_right + offset, 4, scale=scale, baseline=baseline)
        torch.testing.assert_close(found, expected if scale == "std" else size * expected)


def test_large_counts_keep_all_their_digits():
    assert group_advantages(torch.tensor([2**40 + 1, 2**40, 2**40, 2**40]), 4).tolist() == [1.5, -0.5, -0.5, -0.5]


def test_half_precision_is_computed_in_float32_and_its_steps_are_differences():
    rewards = torch.tensor([0.5, 0.5, 0.5, 0.501953125], dtype=torch.float16)
    assert group_advantages(rewards, 4).tolist() == [-0.5, -0.5, -0.5, 1.5]


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_reward_that_is_not_finite_makes_its_own_group_nan_and_no_other(bad):
    found = group_advantages(torch.tensor([bad, 0.0, 1.0, 0.0, bad, bad]), 2)
    assert found.isnan().tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize("rewards", [[1, 0, 0, 0], [True, False, False, False]])
def test_counts_and_truth_values_are_rewards_too(rewards):
    assert group_advantages(torch.tensor(rewards), 4).tolist() == [1.5, -0.5, -0.5, -0.5]


def test_a_group_of_one_is_0_with_the_mean_and_refused_without_its_only_member():
    assert group_advantages(torch.tensor([1.0, 0.0]), 1).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="group_size >= 2, got 1"):
        group_advantages(torch.tensor([1.0]), 1, baseline="leave_one_out")


def test_a_batch_that_is_not_whole_groups_is_refused():
    with pytest.raises(ValueError, match=r"rewards has shape \(7,\) with group_size 4"):
        group_advantages(torch.zeros(7), 4)
    with pytest.raises(ValueError, match="scale='max'"):
        group_advantages(torch.zeros(8), 4, scale="max")
