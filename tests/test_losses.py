"""The policy loss against the fixture that verl 0.9.0 agrees with, autograd, and what must not change it."""

import dataclasses
import itertools
import math

import pytest
import scipy.stats
import torch
from torch.autograd import gradcheck

from hmpo_lib import METHODS, Objective, kl_penalty, policy_loss

# ratios [[.5, 1, 1.5, pad], [2, 1.25, pad, pad]], advantages [1, -1]
RATIOS = torch.tensor([[0.5, 1.0, 1.5, 1.0], [2.0, 1.25, 1.0, 1.0]], dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
ADVANTAGES = torch.tensor([1.0, -1.0], dtype=torch.float64)
OLD = torch.tensor([[-0.1, -0.2, -0.3, 0.0], [-1.0, -2.0, 0.0, 0.0]], dtype=torch.float64)
GMPO_RANGE = (math.exp(-0.4), math.exp(0.4))


def fixture_loss(objective: Objective, **changes):
    arguments = {"logprobs": OLD + RATIOS.log(), "old_logprobs": OLD, "advantages": ADVANTAGES, "completion_mask": MASK}
    arguments |= changes
    return policy_loss(*arguments.values(), objective, metrics=True)


def every_cell():
    """All combinations of exponent, clip place and length weight."""
    exponents = (-math.inf, -2.0, -1.0, 0.0, 0.5, 1.0, math.inf)
    weights = ("equal", "proportional", "constant")
    return [
        Objective(p, clip, (0.8, 1.2) if clip else None, weight, max_length=4 if weight == "constant" else None)
        for p, clip, weight in itertools.product(exponents, (None, "token", "sequence"), weights)
    ]


@pytest.mark.parametrize(
    ("p", "expected"), [(-2, 0.37837794), (-1, (20 / 13 - 9 / 11) / 2), (0, 0.33628927), (1, 0.3125), (2, 0.29379228)]
)
def test_unclipped_losses_are_those_of_the_reference_fixture(p, expected):
    assert fixture_loss(Objective(p)).loss.item() == pytest.approx(expected, abs=1e-8)


def test_clipped_losses_are_those_of_the_reference_fixture():
    assert fixture_loss(METHODS["grpo"].objective).loss.item() == pytest.approx(0.3625, abs=1e-12)
    assert fixture_loss(METHODS["gmpo"].objective).loss.item() == pytest.approx(0.33711607, abs=1e-8)


@pytest.mark.parametrize(
    ("p", "first", "second"),
    [(-1, (-0.2231405, -0.1115702, -0.0743802), (0.2958580, 0.4733728)), (0, (-0.1514267,) * 3, (0.3952847,) * 2)],
)
def test_gradients_are_those_of_the_reference_fixture(p, first, second):
    logprobs = (OLD + RATIOS.log()).requires_grad_()
    fixture_loss(Objective(p), logprobs=logprobs).loss.backward()
    assert logprobs.grad[0].tolist() == pytest.approx([*first, 0], abs=1e-7)
    assert logprobs.grad[1].tolist() == pytest.approx([*second, 0, 0], abs=1e-7)


def test_a_clipped_token_gets_no_gradient_but_stays_in_the_mean():
    logprobs = (OLD + RATIOS.log()).requires_grad_()
    fixture_loss(METHODS["gmpo"].objective, logprobs=logprobs).loss.backward()
    assert logprobs.grad[0, 2] == 0  # 1.5 > e^0.4 with A > 0
    expected = (0.5 * 1.0 * math.exp(0.4)) ** (1 / 3) / 3 / 2  # A · M_0(clipped) · W / batch, n = 3
    assert -logprobs.grad[0, 0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [-1.0, 0.0, 1.0])
def test_a_clipped_sequence_gets_no_gradient_at_all(p):
    logprobs = (OLD + RATIOS.log() + 1.0).requires_grad_()
    result = fixture_loss(Objective(p, "sequence", (0.8, 1.2)), logprobs=logprobs)
    result.loss.backward()
    assert (logprobs.grad[0] == 0).all()  # A > 0 and M > 1.2
    assert (logprobs.grad[1, :2] != 0).all()  # A < 0: a high ratio is not clipped
    assert result.metrics["clip_fraction_high"].item() == pytest.approx(3 / 5)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_every_cell_of_the_cube_passes_gradcheck(objective):
    # Away from ties and clip edges: no ratio within 1e-3 of 0.8, 1.2 or of another one.
    log_ratios = torch.tensor([[0.3, -0.1, 0.05, -0.4], [-0.5, 0.02, 0.45, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    logprobs = (log_ratios - 1).requires_grad_()
    old = torch.full_like(log_ratios, -1.0)
    assert gradcheck(lambda x: policy_loss(x, old, ADVANTAGES, mask, objective).loss, (logprobs,))


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_on_policy_every_exponent_and_clip_has_the_same_loss_and_gradient(objective):
    plain = dataclasses.replace(objective, p=1.0, clip=None, clip_range=None)
    results = []
    for cell in (objective, plain):
        logprobs = OLD.clone().requires_grad_()
        loss = fixture_loss(cell, logprobs=logprobs).loss
        loss.backward()
        results.append((loss.detach(), logprobs.grad))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_what_stands_under_the_mask_changes_neither_loss_nor_gradient(objective):
    gradients = []
    for dirt in (0.0, math.inf, -math.inf, math.nan):
        logprobs = torch.where(MASK, OLD + RATIOS.log(), dirt).requires_grad_()
        result = fixture_loss(objective, logprobs=logprobs, old_logprobs=torch.where(MASK, OLD, -dirt))
        result.loss.backward()
        assert all(value.isfinite() for value in result.metrics.values())
        gradients.append(torch.cat([logprobs.grad.flatten(), result.loss.detach().view(1)]))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=0)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_the_order_of_tokens_and_of_completions_changes_nothing(objective):
    tokens = torch.tensor([3, 1, 0, 2])
    turned = fixture_loss(
        objective,
        logprobs=(OLD + RATIOS.log()).flip(0)[:, tokens],
        old_logprobs=OLD.flip(0)[:, tokens],
        advantages=ADVANTAGES.flip(0),
        completion_mask=MASK.flip(0)[:, tokens],
    )
    expected = fixture_loss(objective)
    torch.testing.assert_close(turned.loss, expected.loss)
    torch.testing.assert_close(turned.metrics, expected.metrics)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_an_empty_completion_changes_nothing(objective):
    with_empty = policy_loss(
        torch.cat([OLD + RATIOS.log(), torch.full((1, 4), math.nan, dtype=torch.float64)]),
        torch.cat([OLD, torch.zeros(1, 4, dtype=torch.float64)]),
        torch.tensor([1.0, -1.0, math.nan], dtype=torch.float64),
        torch.cat([MASK, torch.zeros(1, 4, dtype=torch.bool)]),
        objective,
        metrics=True,
    )
    without = fixture_loss(objective)
    torch.testing.assert_close(with_empty.loss, without.loss, rtol=0, atol=0)
    torch.testing.assert_close(with_empty.metrics, without.metrics)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
def test_micro_batches_with_the_whole_normalizer_add_up_to_the_batch(objective):
    normalizer = MASK.sum() if objective.length_weight == "proportional" else len(MASK)
    parts = [
        policy_loss(
            (OLD + RATIOS.log())[i : i + 1],
            OLD[i : i + 1],
            ADVANTAGES[i : i + 1],
            MASK[i : i + 1],
            objective,
            normalizer=normalizer,
        ).loss
        for i in range(2)
    ]
    torch.testing.assert_close(sum(parts), fixture_loss(objective).loss)


@pytest.mark.parametrize("objective", every_cell(), ids=str)
@pytest.mark.parametrize("shape", [(2, 4), (2, 0), (0, 4)])
def test_a_micro_batch_without_a_token_has_loss_0_and_a_gradient_of_zeros_if_it_is_told_the_normalizer(
    objective, shape
):
    logprobs = torch.full(shape, math.nan, dtype=torch.float64, requires_grad=True)
    batch = torch.zeros(shape), torch.ones(shape[0]), torch.zeros(shape, dtype=torch.bool)
    result = policy_loss(logprobs, *batch, objective, normalizer=torch.tensor(7.0), metrics=True)
    result.loss.backward()
    assert result.loss.item() == 0
    assert torch.equal(logprobs.grad, torch.zeros(shape, dtype=torch.float64))
    assert result.metrics["ratio_mean"].isnan()
    with pytest.raises(ValueError, match="give the normalizer"):
        policy_loss(logprobs, *batch, objective)


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_no_methods_loss_gradient_or_exponent(name):
    method = METHODS[name].with_max_length(9)
    generator = torch.Generator().manual_seed(0)
    log_ratios = 0.3 * torch.randn(8, 6, generator=generator, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([6, 2, 1, 4, 6, 3, 5, 2]).unsqueeze(1)
    advantages = torch.randn(8, generator=generator, dtype=torch.float64)
    results = []
    for padding in (0, 6):
        d, m = (torch.nn.functional.pad(x, (0, padding)) for x in (log_ratios, mask))
        leaf = d.clone().requires_grad_()
        objective = method.step_objective(0.25, d, m, advantages)
        loss = policy_loss(leaf, torch.zeros_like(d), advantages, m, objective).loss
        loss.backward()
        results.append((loss.detach(), leaf.grad[:, :6], torch.as_tensor(objective.p)))
    torch.testing.assert_close(results[0], results[1])


def test_a_constant_length_weight_needs_its_constant_in_loss_and_penalty():
    with pytest.raises(ValueError, match="expected the limit of new tokens"):
        fixture_loss(METHODS["dr_grpo"].objective)
    with pytest.raises(ValueError, match="expected the limit of new tokens"):
        kl_penalty(OLD, OLD, MASK, estimator="k2", length_weight="constant")


@pytest.mark.parametrize("name", ["holder", "pmpo", "pessimistic"])
def test_the_objective_of_a_method_that_moves_its_p_is_refused_with_a_word_on_how_to_get_the_steps(name):
    with pytest.raises(ValueError, match="step_objective"):
        fixture_loss(METHODS[name].objective)


def test_metrics_are_computed_where_they_are_asked_for_and_change_nothing():
    arguments = OLD + RATIOS.log(), OLD, ADVANTAGES, MASK, Objective(-1.0)
    plain = policy_loss(*arguments)
    assert plain.metrics == {}
    assert torch.equal(plain.loss, fixture_loss(Objective(-1.0)).loss)
    assert len(fixture_loss(Objective(-1.0)).metrics) == 10


def test_length_weights_are_a_mean_of_sequences_a_mean_of_tokens_and_a_constant():
    surrogates = torch.tensor([1.0, -1.625])  # A · mean ratio
    lengths = torch.tensor([3.0, 2.0])
    for weight, expected in {
        "equal": surrogates.mean(),
        "proportional": (surrogates * lengths).sum() / 5,
        "constant": (surrogates * lengths / 10).mean(),
    }.items():
        objective = Objective(1.0, length_weight=weight, max_length=10 if weight == "constant" else None)
        assert fixture_loss(objective).loss.item() == pytest.approx(-expected.item())


def test_the_push_of_a_negative_exponent_is_strongest_where_probability_fell():
    logprobs = (OLD + RATIOS.log())[:1].requires_grad_()
    policy_loss(logprobs, OLD[:1], ADVANTAGES[:1], MASK[:1], Objective(-1.0)).loss.backward()
    push = -logprobs.grad[0, :3]  # A · M · W = 1 · 9/11 · (6, 3, 2)/11
    assert push.tolist() == pytest.approx([54 / 121, 27 / 121, 18 / 121], rel=1e-12)
    assert push.argmax() == RATIOS[0, :3].argmin()


def test_the_ratio_cap_holds_only_where_the_advantage_is_negative():
    capped = fixture_loss(Objective(1.0, ratio_cap=1.5))
    assert capped.loss.item() == pytest.approx(-(1 - (1.5 + 1.25) / 2) / 2)
    assert capped.metrics["blocked_fraction"].item() == pytest.approx(1 / 5)
    sequence = fixture_loss(Objective(1.0, "sequence", (0.1, 10), ratio_cap=1.5))
    assert sequence.loss.item() == pytest.approx(-(1 - 1.5) / 2)
    assert sequence.metrics["blocked_fraction"].item() == pytest.approx(2 / 5)  # both tokens of the second


def test_a_zero_advantage_pushes_nothing_even_where_its_ratio_overflows():
    logprobs = torch.tensor([[800.0, 0.0], [0.1, 0.0]], requires_grad=True)
    loss = policy_loss(logprobs, torch.zeros(2, 2), torch.tensor([0.0, 1.0]), torch.ones(2, 2), Objective(1.0)).loss
    loss.backward()
    assert loss.isfinite()
    assert (logprobs.grad[0] == 0).all()
    assert logprobs.grad.isfinite().all()


@pytest.mark.parametrize("clip", [None, "token", "sequence"])
def test_only_the_policy_being_trained_gets_a_gradient(clip):
    logprobs = OLD.clone().requires_grad_()
    advantages = ADVANTAGES.clone().requires_grad_()
    objective = Objective(-1.0, clip, (0.8, 1.2) if clip else None)
    # The same tensor twice: what flowed into the old log-probabilities would cancel what the new ones get.
    fixture_loss(objective, logprobs=logprobs, old_logprobs=logprobs, advantages=advantages).loss.backward()
    assert logprobs.grad[0, :3].tolist() == pytest.approx([-1 / 6] * 3)
    assert advantages.grad is None


def test_metrics_count_what_the_clip_blocks():
    metrics = fixture_loss(Objective(1.0, "token", (0.8, 1.2))).metrics
    assert metrics["clip_fraction_high"].item() == pytest.approx(1 / 5)  # 1.5, with A > 0
    assert metrics["clip_fraction_low"].item() == 0  # 2 and 1.25 are high, and A < 0 clips low ones only
    assert metrics["ratio_mean"].item() == pytest.approx(RATIOS[MASK].mean().item())
    assert metrics["ratio_max"].item() == 2
    assert metrics["kl_old_new"].item() == pytest.approx(-RATIOS[MASK].log().mean().item())
    assert metrics["ratio_min"].item() == 0.5
    assert metrics["ratio_std"].item() == pytest.approx(RATIOS[MASK].std(correction=0).item())
    turned = fixture_loss(Objective(1.0, "token", (0.8, 1.2)), advantages=-ADVANTAGES).metrics
    assert turned["clip_fraction_low"].item() == pytest.approx(1 / 5)  # 0.5, with A < 0
    assert turned["clip_fraction_high"].item() == pytest.approx(2 / 5)  # 2 and 1.25, with A > 0
    halved = fixture_loss(Objective(1.0, "token", (0.8, 1.2)), advantages=torch.tensor([1.0, 0.0])).metrics
    assert halved["blocked_fraction"].item() == pytest.approx(1 / 3)  # only tokens with A != 0 count


def test_effective_sample_size_and_entropy_are_those_of_the_weights_the_loss_uses():
    ess = fixture_loss(Objective(1.0)).metrics["effective_sample_size"]
    # W = (1, 2, 3)/6 and (8, 5)/13: 1/(n Σ W²) = 36/42 and 169/178
    assert ess.item() == pytest.approx((36 / 42 + 169 / 178) / 2)
    entropy = fixture_loss(Objective(1.0)).metrics["weight_entropy"]
    assert entropy.item() == pytest.approx((scipy.stats.entropy([1, 2, 3]) + scipy.stats.entropy([8, 5])) / 2)
    clipped = fixture_loss(Objective(1.0, "token", (0.8, 1.2)))
    # 1.5 is heard as 1.2: W = (5, 10, 12)/27, 1/(3 Σ W²) = 729/807
    assert clipped.metrics["effective_sample_size"].item() == pytest.approx((729 / 807 + 169 / 178) / 2)


def test_a_sequence_clip_bounds_a_fallen_bad_completion_from_below():
    logprobs = (OLD + RATIOS.log() - 1.5).requires_grad_()
    result = fixture_loss(Objective(-1.0, "sequence", (0.8, 1.2)), logprobs=logprobs)
    result.loss.backward()
    assert (logprobs.grad[1] == 0).all()  # A < 0 and M < 0.8
    assert (logprobs.grad[0, :3] != 0).all()  # A > 0: a low ratio is not clipped
    assert result.metrics["clip_fraction_low"].item() == pytest.approx(2 / 5)
    first = -math.exp(-1.5) * 9 / 11
    assert result.loss.item() == pytest.approx((first + 0.8) / 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old_logprobs": OLD[:, :3]}, r"logprobs has shape \(2, 4\), old_logprobs \(2, 3\)"),
        ({"completion_mask": MASK[:1]}, r"completion_mask \(1, 4\)"),
        ({"advantages": torch.ones(3)}, r"advantages has shape \(3,\)"),
        ({"advantages": torch.ones(2, 4)}, r"advantages has shape \(2, 4\)"),
        ({"completion_mask": torch.zeros_like(MASK)}, "no true entry"),
    ],
)
def test_tensors_of_wrong_shapes_are_refused_with_their_shapes(changes, message):
    with pytest.raises(ValueError, match=message):
        fixture_loss(Objective(1.0), **changes)


def test_tensors_on_two_devices_are_refused_with_both_names():
    with pytest.raises(ValueError, match="advantages on meta, completion_mask on cpu: expected one device"):
        fixture_loss(Objective(1.0), advantages=torch.ones(2, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": math.nan}, "p is nan"),
        ({"p": torch.tensor([1.0, math.nan])}, "p is nan"),
        ({"p": 1.0, "clip": "tokens", "clip_range": (0.8, 1.2)}, "clip is 'tokens'"),
        ({"p": 1.0, "clip": "token"}, "give both"),
        ({"p": 1.0, "clip": "token", "clip_range": (0.2, 0.2)}, "lo <= 1 <= hi"),
        ({"p": 1.0, "length_weight": "token"}, "length_weight is 'token'"),
        ({"p": 1.0, "max_length": 5}, "max_length is 5"),
        ({"p": 1.0, "ratio_cap": 0.5}, "ratio_cap is 0.5"),
    ],
)
def test_an_objective_that_means_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objective(**arguments)


def test_objectives_are_equal_where_their_settings_are_tensors_included():
    def several(*p):
        return Objective(torch.tensor(p), "token", (0.8, 1.2))

    assert several(-1.0, 1.0) == several(-1.0, 1.0)
    assert hash(several(-1.0, 1.0)) == hash(several(-1.0, 1.0))
    assert several(-1.0, 1.0) != several(-1.0, 0.5)
    assert several(-1.0, 1.0) != dataclasses.replace(several(-1.0, 1.0), clip_range=(0.8, 1.3))
    assert Objective(torch.tensor(0.5)) == Objective(0.5) != several(0.5)
    assert Objective(0.5) != Objective(None)
    assert Objective(0.5) != 0.5


def test_an_exponent_per_completion_is_one_loss_per_completion():
    both = fixture_loss(Objective(torch.tensor([-1.0, 1.0]))).loss
    assert both.item() == pytest.approx(-(9 / 11 - 1.625) / 2)
    with pytest.raises(ValueError, match=r"objective.p has shape \(3,\)"):
        fixture_loss(Objective(torch.zeros(3)))
