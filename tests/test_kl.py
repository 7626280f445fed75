"""KL estimators and their gradients against enumeration of every outcome."""

import math

import pytest
import torch

from hmpo_lib import kl_penalty

DOUBLE = torch.float64


@pytest.fixture
def policies():
    """Logits of a policy on five outcomes, and a reference."""
    new = torch.tensor([0.3, -0.5, 1.0, 0.0, -1.2], dtype=DOUBLE, requires_grad=True)
    ref = torch.tensor([0.1, 0.4, -0.3, 0.8, 0.0], dtype=DOUBLE).log_softmax(0)
    return new, ref


def kl(a, b):
    return (a.exp() * (a - b)).sum()


def expectation(new, ref, estimator):
    """Mean of the estimator over samples of new, each outcome by its probability; gradient as a loss has it.

    Each outcome is a completion of one token. The probability is a constant: who samples does not differentiate.
    """
    logprobs = new.log_softmax(0)
    outcomes = [
        kl_penalty(logprobs[[x]][None], ref[[x]][None], torch.ones(1, 1), estimator=estimator) for x in range(len(new))
    ]
    return (logprobs.exp().detach() * torch.stack(outcomes)).sum()


@pytest.mark.parametrize("estimator", ["k1", "k3", "k3_weighted"])
def test_k1_and_k3_are_unbiased_for_kl_new_ref(policies, estimator):
    new, ref = policies
    exact = kl(new.log_softmax(0), ref)
    torch.testing.assert_close(expectation(new, ref, estimator), exact)
    assert abs(exact - kl(ref, new.log_softmax(0))) > 0.05  # a reversed direction would be seen


def test_the_estimator_with_policies_swapped_is_that_of_another_divergence(policies):
    new, ref = policies
    logprobs = new.log_softmax(0)
    swapped = torch.stack(
        [kl_penalty(ref[[x]][None], logprobs[[x]][None], torch.ones(1, 1), estimator="k3") for x in range(5)]
    )
    assert abs((logprobs.exp() * swapped).sum() - kl(logprobs, ref)) > 0.05


def test_k2_is_biased_but_close_when_the_policies_are(policies):
    new, ref = policies
    assert abs(expectation(new, ref, "k2") - kl(new.log_softmax(0), ref)) > 1e-3
    near = (ref + 1e-3 * new.detach()).clone().requires_grad_()
    torch.testing.assert_close(
        expectation(near, ref, "k2"), kl(near.log_softmax(0), ref), rtol=5e-3, atol=0, check_dtype=True
    )


def gradient(value, new):
    (found,) = torch.autograd.grad(value, new)
    return found


def test_k1_as_a_loss_has_no_expected_gradient(policies):
    new, ref = policies
    assert gradient(expectation(new, ref, "k1"), new).abs().max() < 1e-15


def test_k2_as_a_loss_has_the_gradient_of_kl_new_ref(policies):
    new, ref = policies
    expected = gradient(kl(new.log_softmax(0), ref), new)
    torch.testing.assert_close(gradient(expectation(new, ref, "k2"), new), expected)


def test_k3_as_a_loss_has_the_gradient_of_the_reverse_kl_ref_new(policies):
    new, ref = policies
    found = gradient(expectation(new, ref, "k3"), new)
    torch.testing.assert_close(found, gradient(kl(ref, new.log_softmax(0)), new))
    assert not torch.allclose(found, gradient(kl(new.log_softmax(0), ref), new), rtol=0.05)


def test_k3_times_the_ratio_has_the_gradient_of_kl_new_ref(policies):
    new, ref = policies
    found = gradient(expectation(new, ref, "k3_weighted"), new)
    torch.testing.assert_close(found, gradient(kl(new.log_softmax(0), ref), new))
    assert not torch.allclose(found, gradient(expectation(new, ref, "k3"), new), rtol=0.05)


def test_both_k3s_have_the_gradients_that_an_enumeration_elsewhere_gave():
    new = torch.tensor([0.2, 0.0, -0.1], dtype=DOUBLE, requires_grad=True)
    ref = torch.zeros(3, dtype=DOUBLE).log_softmax(0)
    weighted = gradient(expectation(new, ref, "k3_weighted"), new)
    assert weighted.tolist() == pytest.approx([0.058918, -0.015736, -0.043182], abs=1e-6)
    alone = gradient(expectation(new, ref, "k3"), new)
    assert alone.tolist() == pytest.approx([0.05736, -0.01346, -0.0439], abs=1e-5)


def test_k3_times_the_ratio_is_right_off_policy_too_and_the_others_are_not(policies):
    new, ref = policies
    old = torch.tensor([-1.0, 1.2, -0.5, 0.5, 0.9], dtype=DOUBLE).log_softmax(0)

    def off_policy(estimator):
        """As `expectation`, of samples of old."""
        rows = new.log_softmax(0)[:, None], ref[:, None]
        each = [
            kl_penalty(*(row[[x]] for row in rows), torch.ones(1, 1), estimator=estimator, old_logprobs=old[[x]][None])
            for x in range(len(new))
        ]
        return (old.exp() * torch.stack(each)).sum()

    exact = kl(new.log_softmax(0), ref)
    torch.testing.assert_close(off_policy("k3_weighted"), exact)
    torch.testing.assert_close(gradient(off_policy("k3_weighted"), new), gradient(exact, new))
    for estimator in ("k1", "k2", "k3"):
        assert abs(off_policy(estimator) - exact) > 0.01


def test_k3_is_never_negative_and_k1_may_be():
    x = torch.linspace(-3, 3, 13, dtype=DOUBLE)[:, None]
    zero, mask = torch.zeros(1, 1, dtype=DOUBLE), torch.ones(1, 1)
    k3 = [kl_penalty(row[None], zero, mask, estimator="k3").item() for row in x]
    assert min(k3) == k3[6] == 0
    assert kl_penalty(x[[0]], zero, mask, estimator="k1").item() == -3


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_weighted"])
def test_the_mask_hides_everything_and_the_reference_gets_no_gradient(estimator):
    logprobs = torch.tensor([[-1.0, -2.0, math.nan], [-0.5, -math.inf, 7.0]], dtype=DOUBLE, requires_grad=True)
    ref = torch.tensor([[-1.5, -1.0, math.inf], [-0.7, math.nan, 0.0]], dtype=DOUBLE, requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    value = kl_penalty(logprobs, ref, mask, estimator=estimator)
    value.backward()
    assert value.isfinite()
    assert logprobs.grad[mask == 0].tolist() == [0, 0, 0]
    assert logprobs.grad[mask == 1].abs().min() > 0
    assert ref.grad is None


@pytest.mark.parametrize(
    ("length_weight", "expected"),
    [("equal", (0.25 + 0.2) / 2), ("proportional", (0.5 + 0.2) / 3), ("constant", (0.5 + 0.2) / 4 / 2)],
)
def test_completions_are_weighted_as_in_the_policy_loss(length_weight, expected):
    logprobs = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]], dtype=DOUBLE)
    ref = torch.tensor([[-1.5, -2.0], [-0.7, 0.0]], dtype=DOUBLE)
    mask = torch.tensor([[1, 1], [1, 0]])
    max_length = 4 if length_weight == "constant" else None
    found = kl_penalty(logprobs, ref, mask, estimator="k1", length_weight=length_weight, max_length=max_length)
    assert found.item() == pytest.approx(expected)


def test_half_precision_is_computed_in_float32():
    logprobs, ref = torch.full((1, 3001), -1.0).bfloat16(), torch.full((1, 3001), -1.5).bfloat16()
    found = kl_penalty(logprobs, ref, torch.ones(1, 3001), estimator="k1", length_weight="constant", max_length=1)
    assert found.item() == 1500.5  # in bfloat16 3,001 tokens are 3,008


def test_bad_input_is_refused_with_what_was_got():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="k4"):
        kl_penalty(x, x, x + 1, estimator="k4")
    with pytest.raises(ValueError, match=r"ref_logprobs \(2, 2\)"):
        kl_penalty(x, x[:, :2], x + 1, estimator="k1")
    with pytest.raises(ValueError, match=r"old_logprobs \(2, 2\)"):
        kl_penalty(x, x, x + 1, estimator="k3_weighted", old_logprobs=x[:, :2])
    with pytest.raises(ValueError, match="no true entry"):
        kl_penalty(x, x, x, estimator="k1")
