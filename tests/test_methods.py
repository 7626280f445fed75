"""The table of methods."""

import dataclasses
import math

import pytest
import torch

from hmpo_lib import METHODS, Method, Objective, policy_loss


@pytest.mark.parametrize(
    ("name", "p", "clip", "length_weight"),
    [
        ("grpo", 1, "token", "equal"),
        ("dr_grpo", 1, "token", "constant"),
        ("dapo", 1, "token", "proportional"),
        ("gspo", 0, "sequence", "equal"),
        ("luspo", 0, "sequence", "constant"),
        ("gmpo", 0, "token", "equal"),
        ("hmpo", -1, "sequence", "equal"),
        ("hmpo_token", -1, "token", "equal"),
        ("holder", None, "sequence", "equal"),
        ("pmpo", None, "token", "equal"),
        ("pessimistic", None, "sequence", "equal"),
    ],
)
def test_each_method_is_its_cell_of_the_cube_and_names_its_source(name, p, clip, length_weight):
    objective = METHODS[name].objective
    assert (objective.p, objective.clip, objective.length_weight) == (p, clip, length_weight)
    assert METHODS[name].source


def on_policy():
    return torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([1.0, -1.0])


def test_the_objective_of_a_step_is_the_methods_own_or_has_the_p_that_its_schedule_gives():
    for method in METHODS.values():
        found = method.step_objective(0.75, *on_policy())
        if method.p_schedule is None:
            assert found is method.objective
        else:
            p = method.p_schedule(0.75, *on_policy())
            assert found == dataclasses.replace(method.objective, p=p)
    assert METHODS["holder"].step_objective(0.75, *on_policy()).p == -1


def test_no_gradient_reaches_a_schedule():
    def watched(progress, log_ratios, completion_mask, advantages):
        assert not log_ratios.requires_grad
        return 0.5

    log_ratios, mask, advantages = on_policy()
    method = Method(Objective(None), p_schedule=watched)
    assert method.step_objective(0.0, log_ratios.requires_grad_(), mask, advantages).p == 0.5


def test_a_method_of_ones_own_takes_one_argument():
    method = Method(Objective(-0.5))
    assert (method.source, method.advantage_scale, method.p_schedule) == ("unpublished", "std", None)


@pytest.mark.parametrize("p", [2.0, torch.ones(2)])
def test_an_exponent_beside_a_schedule_is_refused_and_so_is_neither(p):
    with pytest.raises(ValueError, match="expected one of the two"):
        Method(Objective(p), p_schedule=METHODS["holder"].p_schedule)
    with pytest.raises(ValueError, match="expected one of the two"):
        Method(Objective(None))


def test_a_limit_of_new_tokens_goes_where_one_is_missing_and_nowhere_else():
    assert METHODS["dr_grpo"].with_max_length(512).objective.max_length == 512
    assert METHODS["dr_grpo"].with_max_length(512).advantage_scale == "none"
    for name, method in METHODS.items():
        if name != "dr_grpo":
            assert method.with_max_length(512) is method


def test_gspo_is_the_exponential_of_the_length_normalized_log_ratio():
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(32, 6, generator=generator, dtype=torch.float64)
    logprobs = old + 3e-3 * torch.randn(32, 6, generator=generator, dtype=torch.float64)
    advantages = torch.randn(32, generator=generator, dtype=torch.float64)
    ratio = ((logprobs - old).mean(dim=1)).exp()  # GSPO's equation 7, written out
    assert ((advantages > 0) & (ratio > 1 + 4e-4)).any()  # both bounds bind somewhere
    assert ((advantages < 0) & (ratio < 1 - 3e-4)).any()
    expected = -torch.minimum(ratio * advantages, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantages).mean()
    torch.testing.assert_close(
        policy_loss(logprobs, old, advantages, torch.ones(32, 6), METHODS["gspo"].objective).loss, expected
    )


def test_grpo_is_the_clipped_surrogate_averaged_over_tokens_then_sequences():
    generator = torch.Generator().manual_seed(1)
    old = -torch.rand(4, 6, generator=generator, dtype=torch.float64)
    logprobs = old + 0.3 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.5, -2.0], dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([6, 2, 1, 4]).unsqueeze(1)
    ratio, a = (logprobs - old).exp(), advantages.unsqueeze(1)
    surrogate = torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)
    expected = -((surrogate * mask).sum(dim=1) / mask.sum(dim=1)).mean()
    torch.testing.assert_close(policy_loss(logprobs, old, advantages, mask, METHODS["grpo"].objective).loss, expected)


def test_no_published_range_is_changed_by_accident():
    assert METHODS["gspo"].objective.clip_range == (1 - 3e-4, 1 + 4e-4)
    assert METHODS["dapo"].objective.clip_range == (0.8, 1.28)
    assert METHODS["gmpo"].objective.clip_range == (math.exp(-0.4), math.exp(0.4))
    assert METHODS["dr_grpo"].advantage_scale == "none"
    assert dataclasses.replace(METHODS["hmpo"].objective, p=0.0) == dataclasses.replace(
        METHODS["pessimistic"].objective, p=0.0
    )
