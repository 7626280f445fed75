"""The gradient compass against gradients taken one by one, and its recording."""

import pytest
import torch

from hmpo_lib import Objective, group_advantages, policy_loss
from hmpo_lib.lm import load_base_model, sample_completions, token_logprobs
from hmpo_lib.teach.gradient_compass.compass_experiment import (
    EXPONENTS,
    STAGES,
    STALENESS,
    Compass,
    change_rates,
    gradient_compass,
    load_compass,
    turning_rates,
)
from hmpo_lib.teach.gradient_compass.compass_panel import compass_caption, compass_explorer, view_compass
from hmpo_lib.teach.gradient_compass.turning_drawing import turning_drawing

from ...scripts import load_script

P = [-4.0, -1.0, 0.0, 0.5, 4.0]


@pytest.fixture(scope="module")
def stale():
    """A model that has moved a little since it sampled."""
    model, tokenizer = load_base_model()
    rollout = sample_completions(
        model,
        tokenizer,
        ["7+12+5=", "18+3+9+14="],
        group_size=4,
        max_new_tokens=40,
        generator=torch.Generator().manual_seed(0),
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1e-2 * torch.randn(weight.shape, generator=generator)
    advantages = group_advantages(torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 1]), group_size=4)
    return model, rollout, advantages


def plain_gradient(model, rollout, advantages, p):
    logprobs = token_logprobs(model, rollout)
    loss = policy_loss(logprobs, rollout.logprobs, advantages, rollout.completion_mask, Objective(p)).loss
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double()


def test_the_compass_agrees_with_gradients_of_the_whole_loss(stale):
    compass = gradient_compass(*stale, P)
    reference = plain_gradient(*stale, 0.0)
    for k, p in enumerate(P):
        gradient = plain_gradient(*stale, p)
        expected = torch.cosine_similarity(gradient, reference, dim=0), gradient.norm() / reference.norm()
        torch.testing.assert_close((compass.cosines[k], compass.norms[k]), expected, rtol=1e-5, atol=1e-6)
        difference = (gradient - reference).norm() / reference.norm()
        torch.testing.assert_close(compass.differences[k], difference, rtol=1e-4, atol=1e-5)
    assert compass.cosines[0] < 0.999  # the test would tell nothing where all gradients are alike


def test_the_sign_of_the_exponent_matters(stale):
    there, back = (gradient_compass(*stale, [p]) for p in (2.0, -2.0))
    assert abs(float(there.norms[0] - back.norms[0])) > 1e-3


def test_by_log_probability_an_answer_alone_turns_by_the_spread_of_its_log_ratios(stale):
    model, rollout, _ = stale
    alone = rollout.select(torch.tensor([int(rollout.completion_mask.sum(dim=1).argmax())]))
    compass = gradient_compass(model, alone, torch.ones(1), [-0.01, 0.01])
    lengths = alone.completion_mask.sum()
    population = compass.spread * ((lengths - 1) / lengths).sqrt()
    torch.testing.assert_close(compass.logprob_differences / 0.01, population.expand(2), rtol=0.02, atol=0)


def test_gradients_are_made_even_where_the_caller_has_turned_them_off(stale):
    with torch.no_grad():
        assert gradient_compass(*stale, [0.0]).cosines.item() == pytest.approx(1.0)


def test_advantages_of_0_are_refused(stale):
    with pytest.raises(ValueError, match="all advantages are 0"):
        gradient_compass(stale[0], stale[1], torch.zeros(8), P)


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        load_compass(tmp_path / "nothing_here")


def test_the_recording_is_whole_and_on_policy_every_exponent_is_alike():
    compass = load_compass()
    assert compass.cosines.shape[:2] == (len(STAGES), len(STALENESS))
    assert compass.cosines.shape[3] == len(EXPONENTS)
    assert compass.spread.shape == compass.cosines.shape[:3]
    assert all(bool(table.isfinite().all()) for table in compass)
    assert (compass.cosines[:, 0] - 1).abs().max() < 1e-4
    assert (compass.cosines[..., EXPONENTS.index(0.0)] - 1).abs().max() < 1e-6


def test_beginning_of_a_recorded_run_can_be_made_again(monkeypatch):
    tool = load_script("tools/record_compass.py")
    monkeypatch.setattr(tool, "STAGES", STAGES[:1])
    monkeypatch.setattr(tool, "ROLLOUTS_BEFORE", {STAGES[0]: 0})
    monkeypatch.setattr(tool, "STALENESS", STALENESS[:2])
    made = tool.record_run(0)
    for name, table in load_compass()._asdict().items():
        # Sums of floats differ from machine to machine in their last digits; one step makes a little more of that.
        torch.testing.assert_close(made[name].double()[0], table[0, :2, 0], rtol=0.02, atol=0.02)


def test_the_change_rate_of_a_gradient_that_changes_by_the_spread_is_1():
    spread = torch.full((2, 5, 3), 0.2)
    differences = 0.2 * torch.tensor(EXPONENTS).abs().expand(2, 5, 3, -1)
    compass = Compass(differences, differences, differences, 2 * differences, spread)
    torch.testing.assert_close(change_rates(compass), torch.ones(2, 5, 3))
    torch.testing.assert_close(change_rates(compass, by_logprob=True), 2 * torch.ones(2, 5, 3))


def test_a_gradient_that_only_grows_does_not_turn():
    ones, spread = torch.ones(2, 5, 3, len(EXPONENTS)), torch.full((2, 5, 3), 0.2)
    longer = Compass(ones, 1.5 * ones, 0.5 * ones, ones, spread)
    torch.testing.assert_close(turning_rates(longer), torch.zeros(2, 5, 3))
    across = longer._replace(cosines=0 * ones, norms=0.02 * ones)  # at right angles, of length 0.02: |p| std(d)
    torch.testing.assert_close(turning_rates(across), torch.ones(2, 5, 3))


def test_in_the_recording_change_is_turning_and_growing_together():
    compass = load_compass()
    grown = compass.norms * compass.cosines - 1
    turned = compass.norms * (1 - compass.cosines.square()).clamp(min=0).sqrt()
    torch.testing.assert_close((grown.square() + turned.square()).sqrt(), compass.differences, rtol=1e-2, atol=5e-3)


def test_the_panel_shows_both_stages_at_every_exponent(sweep):
    shown = sweep(compass_explorer(load_compass()))
    assert len(shown) == len(STAGES) * len(EXPONENTS)


def test_the_caption_reads_off_the_recording():
    compass = load_compass()
    view = view_compass(compass, STAGES[1], -1.0)
    cosines = compass.cosines[1, 3, :, EXPONENTS.index(-1.0)]
    expected = f"{cosines.median():.2f} ({cosines.min():.2f} to {cosines.max():.2f}) 7 steps old"
    assert expected in compass_caption(view)


def test_the_turning_picture_splits_the_difference_of_two_vectors_at_right_angles():
    g_0, g_p = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 2.0])
    cosine, length = torch.cosine_similarity(g_p, g_0, dim=0).item(), (g_p.norm() / g_0.norm()).item()
    words = turning_drawing(cosine, length).picture.caption_text
    assert "The angle is 71°, and g_p is 1.50 times as long as g_0." in words
    assert "0.50 are lost along it, and 1.41 go across" in words
    with pytest.raises(ValueError, match="a cosine from −1 to 1"):
        turning_drawing(1.5, 1.0)
