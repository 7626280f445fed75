"""What notebook 07 shows of Newton-Schulz, against matrix products in numpy, the SVD and torch's own Muon."""

import numpy as np
import pytest
import torch

from hmpo_lib.teach.muon_and_qk_clip.newton_schulz_panel import (
    CURVE,
    MOST_STEPS,
    SCHEDULES,
    coefficients,
    newton_schulz_explorer,
    polynomial,
    schulz_caption,
    view_schulz,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_products(matrix, schedule, steps):
    """The iteration on the whole matrix."""
    x = matrix.numpy() / np.linalg.norm(matrix.numpy())
    for a, b, c in coefficients(schedule, steps):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [0, 1, 5, MOST_STEPS])
def test_polynomial_is_what_the_iteration_does_to_the_singular_values(schedule, steps):
    matrix = normal(6, 9)
    view = view_schulz({"any": matrix}, "any", schedule, steps)
    expected = np.linalg.svd(by_products(matrix, schedule, steps), compute_uv=False)
    np.testing.assert_allclose(sorted(view.after, reverse=True), expected, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cosine_is_that_of_the_matrices(schedule):
    matrix = normal(6, 9)
    u, _, vt = np.linalg.svd(matrix.numpy(), full_matrices=False)
    result, target = by_products(matrix, schedule, 3), u @ vt
    expected = (result * target).sum() / (np.linalg.norm(result) * np.linalg.norm(target))
    assert view_schulz({"any": matrix}, "any", schedule, 3).cosine == pytest.approx(expected, abs=1e-6)


def test_jordans_five_steps_are_the_direction_of_torchs_muon():
    weight = torch.nn.Parameter(torch.zeros(6, 9))
    weight.grad = normal(6, 9).float()
    torch.optim.Muon([weight], lr=1.0, momentum=0.0, nesterov=False, weight_decay=0.0).step()
    expected = torch.from_numpy(by_products(normal(6, 9), "Jordan", 5)).float()
    assert (weight + expected).norm() / expected.norm() < 0.03  # torch computes in bfloat16
    classical = torch.from_numpy(by_products(normal(6, 9), "classical", 5)).float()
    assert (weight + classical).norm() / classical.norm() > 0.1


def test_polar_express_comes_as_near_as_its_paper_says_and_jordan_does_not():
    inputs = torch.logspace(-3, 0, 20_001, dtype=torch.float64)
    assert (polynomial(inputs, "Polar Express", 6) - 1).abs().max() < 0.0014
    assert (polynomial(inputs, "Polar Express", MOST_STEPS) - 1).abs().max() < 1e-6
    assert (polynomial(inputs, "Jordan", MOST_STEPS) - 1).abs().max() > 0.3


def test_nothing_leaves_the_axes():
    for schedule in SCHEDULES:
        for steps in range(MOST_STEPS + 1):
            values = polynomial(CURVE, schedule, steps)
            assert values.min() >= 0
            assert values.max() < 2.1


def test_panel_follows_its_controls(sweep):
    matrices = {"normal": normal(8, 8), "few directions": normal(8, 2) @ normal(2, 8, seed=1) + 1e-3 * normal(8, 8)}
    shown = sweep(newton_schulz_explorer(matrices))
    assert len(shown) == 2 * len(SCHEDULES) * (MOST_STEPS + 1)


def test_caption_gives_the_range_and_the_cosine():
    view = view_schulz({"the identity": torch.eye(4)}, "the identity", "classical", 1)
    assert view.before == (0.5,) * 4
    assert schulz_caption(view).endswith(
        "lay between 0.5 and 0.5 and lie between 0.688 and 0.688; cosine with U Vᵀ 1.000."
    )


def test_matrices_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"the matrices have \[2, 3\] singular values: expected one number"):
        newton_schulz_explorer({"small": torch.eye(2), "large": torch.eye(3)})
