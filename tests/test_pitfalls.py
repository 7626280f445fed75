"""docs/pitfalls.md: what each symptom is, in a few lines that can be run."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch

from hmpo_lib import METHODS, Objective, group_advantages, policy_loss
from hmpo_lib.lm import load_base_model, sample_completions, token_logprobs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "pitfalls.md"


def batch(spread, *, rows=8, time=40):
    """Log-probabilities, stale ones, centred advantages and a mask; log-ratios of the size ``spread``."""
    generator = torch.Generator().manual_seed(0)
    old = -3 * torch.rand(rows, time, generator=generator, dtype=torch.float64)
    new = old + spread * torch.randn(rows, time, generator=generator, dtype=torch.float64)
    lengths = torch.randint(5, time + 1, (rows,), generator=generator)
    rewards = torch.rand(rows, generator=generator, dtype=torch.float64)
    mask = torch.arange(time) < lengths.unsqueeze(1)
    return new.requires_grad_(), old, group_advantages(rewards, group_size=4), mask


def gradient(new, old, advantages, mask, objective, **options):
    (found,) = torch.autograd.grad(policy_loss(new, old, advantages, mask, objective, **options).loss, new)
    return found


def test_on_policy_the_loss_is_0_and_its_gradient_is_not():
    parts = batch(0.0)
    assert policy_loss(*parts, METHODS["hmpo"].objective).loss.detach().abs() < 1e-12
    assert gradient(*parts, METHODS["hmpo"].objective).abs().max() > 1e-3


def test_a_group_of_equal_rewards_has_no_gradient_at_all():
    new, old, _, mask = batch(0.1)
    advantages = group_advantages(torch.ones(8), group_size=4)
    assert not bool(gradient(new, old, advantages, mask, METHODS["hmpo"].objective).any())


def test_on_policy_every_exponent_has_the_same_gradient_and_off_policy_it_has_not():
    for spread, same in ((0.0, True), (0.3, False)):
        parts = batch(spread)
        found = [gradient(*parts, Objective(p)) for p in (1.0, 0.0, -1.0)]
        assert torch.allclose(found[0], found[1]) is torch.allclose(found[0], found[2]) is same


def test_a_clip_range_of_sequences_clips_most_tokens_and_one_of_tokens_no_sequence():
    parts = batch(0.1)

    def blocked(clip, clip_range, p=0.0):
        return policy_loss(*parts, Objective(p, clip, clip_range), metrics=True).metrics["blocked_fraction"]

    gspo = METHODS["gspo"].objective.clip_range
    # A mean over n tokens moves about √n times less than they do.
    assert blocked("sequence", (0.8, 1.2)) == 0
    assert blocked("token", (0.8, 1.2)) > 0.01
    assert blocked("sequence", gspo) > 0.3
    assert blocked("token", gspo) > 0.4


def test_dropout_and_another_temperature_make_ratios_differ_from_1_on_policy():
    model, tokenizer = load_base_model()
    rollout = sample_completions(
        model, tokenizer, ["7+12+5="], group_size=4, max_new_tokens=20, generator=torch.Generator().manual_seed(0)
    )

    def largest_log_ratio(temperature=1.0):
        with torch.no_grad():
            new = token_logprobs(model, rollout, temperature=temperature)
        return float((new - rollout.logprobs)[rollout.completion_mask.bool()].abs().max())

    assert largest_log_ratio() < 1e-4
    assert largest_log_ratio(temperature=0.7) > 0.01
    model.model.embed_tokens.register_forward_hook(lambda module, args, output: torch.dropout(output, 0.1, train=True))
    assert largest_log_ratio() > 0.01


def test_a_bad_completion_whose_ratio_explodes_makes_the_loss_infinite_without_a_cap():
    new, old, advantages, mask = batch(0.0)
    old = torch.where(torch.arange(40) == 0, old - 800, old)
    bad = -advantages.abs() - 0.1
    grpo = METHODS["grpo"].objective
    assert policy_loss(new, old, bad, mask, grpo).loss.isinf()
    assert policy_loss(new, old, bad, mask, dataclasses.replace(grpo, ratio_cap=3.0)).loss.isfinite()
    # A sequence clip on the geometric mean only thins it out: 800 over 40 tokens is e^20.
    assert policy_loss(new, old, bad, mask, METHODS["gspo"].objective).loss.detach() > 1e6


def test_zero_times_infinity_is_nan_where_a_loss_multiplies_by_its_mask():
    new, old, advantages, mask = batch(0.1)
    new = torch.where(mask, new, -math.inf)
    by_multiplying = -(advantages.unsqueeze(1) * (new - old).exp().log() * mask).sum()
    assert by_multiplying.isnan()
    assert policy_loss(new, old, advantages, mask, METHODS["hmpo"].objective).loss.isfinite()


def test_the_mean_of_micro_batches_is_not_the_mean_of_the_batch_without_a_normalizer():
    new, old, advantages, mask = batch(0.3)
    objective = Objective(-1.0, length_weight="proportional")
    whole = policy_loss(new, old, advantages, mask, objective).loss
    parts = [slice(0, 5), slice(5, 8)]

    def summed(**options):
        return sum(policy_loss(new[s], old[s], advantages[s], mask[s], objective, **options).loss for s in parts)

    assert not torch.isclose(summed() / 2, whole, rtol=1e-2)
    torch.testing.assert_close(summed(normalizer=mask.sum()), whole)


def test_a_rank_without_tokens_has_a_loss_to_call_backward_on():
    new, old, advantages, mask = batch(0.3)
    loss = policy_loss(new, old, advantages, torch.zeros_like(mask), METHODS["hmpo"].objective, normalizer=8).loss
    loss.backward()
    assert loss == 0
    assert not bool(new.grad.any())
    with pytest.raises(ValueError, match="skip the batch, or give the normalizer"):
        policy_loss(new, old, advantages, torch.zeros_like(mask), METHODS["hmpo"].objective)


def test_token_mean_pushes_long_completions_more_than_equal_weights_do():
    parts = batch(0.0)
    lengths = parts[3].sum(dim=1)
    pushes = {
        weight: gradient(*parts, Objective(0.0, length_weight=weight)).abs().sum(dim=1) / parts[2].abs()
        for weight in ("equal", "proportional")
    }
    share = {weight: push / push.sum() for weight, push in pushes.items()}
    torch.testing.assert_close(share["equal"], torch.full((8,), 1 / 8, dtype=torch.float64))
    torch.testing.assert_close(share["proportional"], lengths / lengths.sum().double())


def test_a_clip_by_a_ranks_own_maximum_makes_replicas_drift():
    from hmpo_lib.optim.qk_clip import clip_factors

    ranks = torch.tensor([[90.0, 150.0], [120.0, 80.0]])  # [ranks, heads], from different rows of the batch
    own = torch.stack([clip_factors(maxima, 100.0) for maxima in ranks])
    assert not torch.equal(own[0], own[1])
    together = clip_factors(ranks.amax(dim=0), 100.0)  # what one all-reduce gives every rank
    torch.testing.assert_close(together, torch.tensor([100 / 120, 100 / 150]))


def test_every_row_of_the_page_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) >= 20
    for path, test in named:
        assert f"def {test}(" in (PAGE.parent.parent / path).read_text(encoding="utf-8"), f"{path}::{test}"
    here = {test for path, test in named if path == "tests/test_pitfalls.py"}
    assert here == {name for name in globals() if name.startswith("test_")} - {
        "test_every_row_of_the_page_names_a_test_that_exists"
    }
