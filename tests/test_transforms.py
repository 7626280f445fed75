"""The loss inside `torch.compile`, `torch.func.grad` and `torch.func.vmap`, against its own plain gradient."""

import math

import pytest
import torch
from torch.func import grad, jvp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from hmpo_lib import Objective, log_power_mean, policy_loss

# torch's own, of its compiler and of its forward mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
]

GENERATOR = torch.Generator().manual_seed(0)
OLD = -torch.rand(4, 6, generator=GENERATOR, dtype=torch.float64)
NEW = OLD + 0.3 * torch.randn(4, 6, generator=GENERATOR, dtype=torch.float64)
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5, -2.0], dtype=torch.float64)
MASK = torch.arange(6) < torch.tensor([6, 2, 1, 4]).unsqueeze(1)
NORMALIZER = 3.0

OBJECTIVES = [
    Objective(p, clip, (0.8, 1.2) if clip else None, weight, max_length=8 if weight == "constant" else None)
    for p, clip, weight in [
        (-math.inf, None, "equal"),
        (-1.0, "sequence", "equal"),
        (0.0, "token", "proportional"),
        (1e-6, None, "constant"),
        (1.0, "token", "equal"),
        (2.0, "sequence", "constant"),
    ]
] + [Objective(torch.tensor([-1.0, 0.0, 1.0, 2.0], dtype=torch.float64))]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)


def whole(logprobs, objective, **settings):
    return policy_loss(logprobs, OLD, ADVANTAGES, MASK, objective, **settings).loss


def plain(objective, normalizer=None):
    """The loss and its gradient without any transform."""
    leaf = NEW.clone().requires_grad_()
    loss = whole(leaf, objective, normalizer=normalizer)
    loss.backward()
    return loss.detach(), leaf.grad


@each_objective
def test_torch_func_grad_gives_the_plain_gradient(objective):
    assert torch.equal(grad(whole)(NEW, objective), plain(objective)[1])


@pytest.mark.parametrize("objective", OBJECTIVES[:-1], ids=str)  # the last has an exponent for each of them
def test_vmap_over_completions_gives_each_ones_loss_and_gradient(objective):
    def one(logprobs, old_logprobs, advantage, mask):
        batch = (x.unsqueeze(0) for x in (logprobs, old_logprobs, advantage, mask))
        return policy_loss(*batch, objective, normalizer=NORMALIZER).loss

    loss, gradient = plain(objective, NORMALIZER)
    torch.testing.assert_close(vmap(one)(NEW, OLD, ADVANTAGES, MASK).sum(), loss)
    torch.testing.assert_close(vmap(grad(one))(NEW, OLD, ADVANTAGES, MASK), gradient)


@each_objective
def test_vmap_over_whole_batches_and_its_gradient_are_those_of_a_loop(objective):
    several = torch.stack([NEW, NEW + 0.1, NEW - 0.2], dim=1)  # mapped over the second dimension

    def losses(x):
        return vmap(lambda logprobs: whole(logprobs, objective, normalizer=NORMALIZER), in_dims=1)(x)

    looped = [whole(x, objective, normalizer=NORMALIZER) for x in several.unbind(1)]
    torch.testing.assert_close(losses(several), torch.stack(looped))
    torch.testing.assert_close(grad(lambda x: losses(x).sum())(several)[:, 0], plain(objective, NORMALIZER)[1])


def test_vmap_over_exponents_gives_the_mean_and_its_slope_at_each():
    exponents = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)

    def mean(p):
        return log_power_mean(NEW[0], p)

    expected = [(mean(p), torch.autograd.functional.jacobian(mean, p)) for p in exponents]
    torch.testing.assert_close(vmap(mean)(exponents), torch.stack([value for value, _ in expected]))
    torch.testing.assert_close(vmap(grad(mean))(exponents), torch.stack([slope for _, slope in expected]))


def test_without_a_normalizer_vmap_says_that_it_cannot_look_into_the_mask():
    with pytest.raises(RuntimeError, match="vmap"):
        vmap(lambda m: policy_loss(NEW, OLD, ADVANTAGES, m, Objective(0.0)).loss)(MASK.expand(2, 4, 6))


def test_a_second_derivative_is_refused_by_name():
    leaf = NEW.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(whole(leaf, Objective(0.0)), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        gradient.sum().backward()
    with pytest.raises(NotImplementedError, match="jvp"):
        jvp(lambda x: whole(x, Objective(0.0)), (NEW,), (NEW,))


@each_objective
def test_torch_compile_gives_the_same_loss_and_gradient_without_a_graph_break(objective):
    torch.compiler.reset()
    compiled = torch.compile(lambda x: whole(x, objective, metrics=True), fullgraph=True, backend="aot_eager")
    leaf = NEW.clone().requires_grad_()
    loss = compiled(leaf)
    loss.backward()
    torch.testing.assert_close((loss.detach(), leaf.grad), plain(objective))


def test_under_torch_compile_there_are_no_metrics_even_if_asked_for():
    torch.compiler.reset()

    def metrics(logprobs):
        return policy_loss(logprobs, OLD, ADVANTAGES, MASK, Objective(0.0), metrics=True).metrics

    assert torch.compile(metrics, fullgraph=True, backend="eager")(NEW) == {}
    assert len(metrics(NEW)) == 10


class Waits(TorchDispatchMode):
    """Counts the operations of which the program needs a number, for which it would wait on a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
        self.count += operation.name() in ("aten::_local_scalar_dense", "aten::nonzero")
        return operation(*arguments, **(settings or {}))


@pytest.mark.parametrize(("settings", "expected"), [({}, 4), ({"normalizer": NORMALIZER}, 3), ({"metrics": True}, 6)])
def test_the_loss_waits_for_the_device_at_most_as_often_as_it_says(settings, expected):
    leaf = NEW.clone().requires_grad_()
    with Waits() as waits:
        loss = whole(leaf, Objective(0.0), **settings)
    assert waits.count <= expected
    with Waits() as waits:
        loss.backward()
    assert waits.count == 0
