"""Where TRL's loss and the library's differ by design: what TRL does, and that nothing else differs."""

import dataclasses
import math

import pytest
import torch

from hmpo_lib import Objective, policy_loss

from .parity import answer, assert_same, needs, our_loss, random_batch, with_empty_completion, with_padding
from .trl_losses import DAPO, GRPO, TRL_CASES, trl_loss

pytestmark = needs("trl")


@pytest.mark.parametrize("name", TRL_CASES)
def test_without_old_logprobs_trl_is_on_policy(name):
    loss, objective = TRL_CASES[name]
    batch = random_batch(0, 0.0)
    assert_same(answer(our_loss, batch, objective), answer(loss, batch._replace(old_logprobs=None), objective))


@pytest.mark.parametrize("name", [name for name in TRL_CASES if name != "gmpo" and not name.startswith("dapo")])
def test_trl_counts_a_completion_without_tokens_in_its_denominator(name):
    loss, objective = TRL_CASES[name]
    batch = with_empty_completion(random_batch(0, 0.3), advantage=2.0)
    ours, theirs = answer(our_loss, batch, objective), answer(loss, batch, objective)
    counted = (len(batch.advantages) - 1) / len(batch.advantages)
    torch.testing.assert_close(theirs.loss, counted * ours.loss)
    torch.testing.assert_close(theirs.gradient, counted * ours.gradient)


def test_trls_gmpo_takes_the_whole_advantage_of_a_completion_without_tokens():
    # The mean ratio of no tokens is exp(0 / 1) = 1, so that its surrogate is A. Ours leaves the completion out.
    loss, objective = TRL_CASES["gmpo"]
    batch = random_batch(0, 0.3)
    size = len(batch.advantages)
    clean = answer(loss, batch, objective)
    for advantage in (2.0, -0.5):
        dirty = with_empty_completion(batch, advantage)
        theirs = answer(loss, dirty, objective)
        torch.testing.assert_close(theirs.loss, (size * clean.loss - advantage) / (size + 1))
        torch.testing.assert_close(answer(our_loss, dirty, objective).loss, clean.loss)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("name", TRL_CASES)
def test_what_stands_under_the_mask_makes_trls_loss_nan_and_not_ours(name, value):
    loss, objective = TRL_CASES[name]
    batch = random_batch(0, 0.3)
    dirty = with_padding(batch, value)
    assert answer(loss, dirty, objective).loss.isnan()
    torch.testing.assert_close(answer(our_loss, dirty, objective), answer(our_loss, batch, objective), rtol=0, atol=0)


def test_trls_delta_below_the_clip_caps_good_completions_and_bad_ones_at_the_clip():
    # Ours caps where A < 0 only, at the number it was given. With delta above the clip's range, as TRL means it, the
    # two are the same.
    batch = random_batch(0, 0.3)
    low_delta = dataclasses.replace(GRPO, ratio_cap=1.1)
    theirs = answer(lambda batch, objective: trl_loss(batch, objective, "grpo"), batch, low_delta)
    assert not torch.isclose(answer(our_loss, batch, low_delta).loss, theirs.loss, rtol=1e-3)
    assert_same(answer(our_loss, batch, Objective(1.0, "token", (0.8, 1.1), ratio_cap=1.2)), theirs)


def test_trls_dapo_divides_by_the_tokens_of_the_generation_batch():
    # The trainer adds the micro-batches' losses up to one step; that is our `normalizer`.
    whole = random_batch(0, 0.3)
    tokens = int(whole.completion_mask.sum())
    parts = [type(whole)(*(tensor[start : start + 2] for tensor in whole)) for start in (0, 2, 4)]
    for part in parts:
        theirs = trl_loss(part, DAPO, "dapo", generation_tokens=tokens, accumulation_steps=3)
        torch.testing.assert_close(theirs, policy_loss(*part, DAPO, normalizer=tokens).loss)


def test_trls_grpo_divides_each_micro_batch_by_their_number():
    whole = random_batch(0, 0.3)
    parts = [type(whole)(*(tensor[start : start + 2] for tensor in whole)) for start in (0, 2, 4)]
    theirs = sum(trl_loss(part, GRPO, "grpo", accumulation_steps=3) for part in parts)
    torch.testing.assert_close(theirs, our_loss(whole, GRPO))
