"""Group advantages: the formula, and the groups on which the formula breaks."""

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
