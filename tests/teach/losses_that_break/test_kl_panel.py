"""The panel of the KL estimators, against the gradients that one writes by hand."""

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from hmpo_lib.teach.losses_that_break import kl_explorer
from hmpo_lib.teach.losses_that_break.kl_panel import kl_caption, view_kl

GIVEN, REF = [0.3, -0.5, 1.0, 0.0, -1.2], [0.1, 0.4, -0.3, 0.8, 0.0]


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 1.4])
def test_values_and_average_gradients_are_those_worked_out_by_hand(distance):
    ref = softmax(REF)
    new = softmax(np.log(ref) + distance * (np.log(softmax(GIVEN)) - np.log(ref)))
    kl, x = rel_entr(new, ref).sum(), np.log(new / ref)
    view = view_kl(GIVEN, REF, distance)
    assert [view.values[name] for name in ("KL", "k1", "k3")] == pytest.approx([kl] * 3)
    assert view.values["k2"] == pytest.approx((new * x**2 / 2).sum())
    np.testing.assert_allclose(view.gradients["KL"], new * (x - kl), atol=1e-12)
    np.testing.assert_allclose(view.gradients["k1"], 0, atol=1e-12)
    np.testing.assert_allclose(view.gradients["k2"], view.gradients["KL"], atol=1e-12)
    np.testing.assert_allclose(view.gradients["k3"], new - ref, atol=1e-12)  # that of KL(ref ‖ new)


def test_caption_says_which_gradient_is_off_and_by_how_much():
    said = kl_caption(view_kl(GIVEN, REF, 1.0))
    assert said == (
        "KL(new ‖ ref) is 0.445; on average k1 0.445, k2 0.557, k3 0.445. "
        "A gradient is off by at most: k1 0.432, k2 0.000, k3 0.092."
    )


def test_every_position_of_the_slider_draws_and_tells_what_it_shows(sweep):
    sweep(kl_explorer(GIVEN, REF))
