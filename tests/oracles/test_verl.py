"""Where verl's losses and the library's differ by design: what verl does, and that nothing else differs."""

import dataclasses
import math

import pytest
import torch

from .parity import answer, assert_same, needs, our_loss, random_batch, with_empty_completion, with_padding
from .verl_losses import VERL_CASES

pytestmark = needs("verl")


@pytest.mark.parametrize("name", ["vanilla", "gspo"])
def test_verl_caps_ratios_of_bad_completions_unasked(name):
    # vanilla: at 3, `clip_ratio_c`; gspo: at e^10, where it clamps the log-ratio.
    loss, capped = VERL_CASES[name]
    uncapped = dataclasses.replace(capped, ratio_cap=None)
    batch = random_batch(0, 0.3)
    batch = batch._replace(logprobs=batch.logprobs + 11)
    theirs = answer(loss, batch, uncapped)
    assert_same(answer(our_loss, batch, capped), theirs)
    assert not torch.isclose(answer(our_loss, batch, uncapped).loss, theirs.loss, rtol=0.1)


def test_verls_vanilla_clamps_log_ratios_at_twenty():
    # Seen only below −20, where A > 0: ours goes on to fall.
    loss, objective = VERL_CASES["vanilla"]
    batch = random_batch(0, 0.3)
    batch = batch._replace(logprobs=batch.logprobs - 25, advantages=batch.advantages.abs())
    theirs = answer(loss, batch, objective)
    assert (theirs.gradient == 0).all()
    assert (answer(our_loss, batch, objective).gradient[batch.advantages > 0].sum(dim=1) < 0).all()
    at_twenty = batch._replace(logprobs=batch.old_logprobs - 20)
    torch.testing.assert_close(answer(our_loss, at_twenty, objective).loss, theirs.loss)


@pytest.mark.parametrize("name", [name for name in VERL_CASES if name != "geo_mean"])
def test_verl_leaves_a_completion_without_tokens_out_as_ours_does(name):
    loss, objective = VERL_CASES[name]
    batch = with_empty_completion(random_batch(0, 0.3), advantage=2.0)
    assert_same(answer(our_loss, batch, objective), answer(loss, batch, objective))


def test_verls_geo_mean_counts_a_completion_without_tokens_in_its_denominator():
    loss, objective = VERL_CASES["geo_mean"]
    batch = with_empty_completion(random_batch(0, 0.3), advantage=2.0)
    ours, theirs = answer(our_loss, batch, objective), answer(loss, batch, objective)
    counted = (len(batch.advantages) - 1) / len(batch.advantages)
    torch.testing.assert_close(theirs.loss, counted * ours.loss)
    torch.testing.assert_close(theirs.gradient, counted * ours.gradient)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("name", ["vanilla", "gspo", "geo_mean"])
def test_what_stands_under_the_mask_makes_verls_loss_nan_and_not_ours(name, value):
    # vanilla: in its means of completions; its "token-mean" alone selects before it sums.
    loss, objective = VERL_CASES[name]
    batch = random_batch(0, 0.3)
    dirty = with_padding(batch, value)
    assert answer(loss, dirty, objective).loss.isnan()
    torch.testing.assert_close(answer(our_loss, dirty, objective), answer(our_loss, batch, objective), rtol=0, atol=0)


def test_verls_token_mean_looks_away_from_what_stands_under_the_mask():
    loss, objective = VERL_CASES["vanilla, dapo"]
    batch = random_batch(0, 0.3)
    assert_same(answer(loss, with_padding(batch, math.nan), objective), answer(our_loss, batch, objective))
