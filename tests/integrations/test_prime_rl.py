"""prime-rl's custom loss: against a stand-in of its types and of how it adds sequences up, read from its source."""

import importlib
import sys
import tomllib
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hmpo_lib import METHODS, Objective, policy_loss

from ..oracles.parity import random_batch, with_empty_completion

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prime_rl.toml"
HMPO = {"p": -1.0, "clip": "sequence", "clip_range": (0.9, 1 / 0.9), "ratio_cap": 10.0}


@dataclass
class LossInputs:
    """As prime_rl.trainer.rl.loss has it."""

    trainer_logprobs: torch.Tensor
    inference_logprobs: torch.Tensor
    ref_logprobs: torch.Tensor | None
    advantages: torch.Tensor
    loss_mask: torch.Tensor
    loss_weights: torch.Tensor | None = None


@dataclass
class LossOutputs:
    """As prime_rl.trainer.rl.loss has it."""

    loss: torch.Tensor
    metrics: dict[str, torch.Tensor]


@pytest.fixture
def power_mean_loss(monkeypatch):
    """The custom loss, with prime-rl's own types where it is installed and stand-ins elsewhere."""
    name = "hmpo_lib.integrations.prime_rl"
    if importlib.util.find_spec("prime_rl") is None:
        for module in ("prime_rl", "prime_rl.trainer", "prime_rl.trainer.rl", "prime_rl.trainer.rl.loss"):
            monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        sys.modules["prime_rl.trainer.rl.loss"].LossOutputs = LossOutputs
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name).power_mean_loss
    monkeypatch.delitem(sys.modules, name, raising=False)


def sequences(batch):
    """The rows of a batch as prime-rl gives them to a loss, one at a time."""
    new, old, advantages, mask = batch
    spread = advantages.unsqueeze(1).expand_as(new)
    return [LossInputs(a, b, None, c, d.bool()) for a, b, c, d in zip(new, old, spread, mask, strict=True)]


def step(loss_fn, batch, **kwargs):
    """prime-rl's sum over sequences, divided by the step's tokens."""
    return sum(loss_fn(inputs, **kwargs).loss for inputs in sequences(batch)) / batch.completion_mask.sum()


def stale_batch():
    return with_empty_completion(random_batch(0, 0.3, longest=40), advantage=2.0)


def test_proportional_is_exact(power_mean_loss):
    ours, whole = (stale_batch() for _ in range(2))
    for batch in (ours, whole):
        batch.logprobs.requires_grad_()
    loss = step(power_mean_loss, ours, **HMPO)
    expected = policy_loss(*whole, Objective(**HMPO, length_weight="proportional")).loss
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=1e-16)
    torch.testing.assert_close(ours.logprobs.grad, whole.logprobs.grad, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize(("weight", "max_length"), [("constant", 50), ("equal", None)])
def test_the_other_weights_are_right_up_to_the_mean_length(power_mean_loss, weight, max_length):
    batch = stale_batch()
    whole = policy_loss(*batch, Objective(**HMPO, length_weight=weight, max_length=max_length)).loss
    completions = int(batch.completion_mask.any(dim=1).sum())
    mean_length = float(batch.completion_mask.sum() / completions)
    scale = mean_length / (max_length or 1)  # the mean length known beforehand: then they are exact, too
    loss = step(power_mean_loss, batch, **HMPO, length_weight=weight, scale=scale)
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
    doubled = step(power_mean_loss, batch, **HMPO, length_weight=weight, scale=2 * scale)
    torch.testing.assert_close(doubled, 2 * whole, rtol=1e-6, atol=0)


def test_equal_without_a_scale_is_refused_with_the_reason(power_mean_loss):
    with pytest.raises(ValueError, match="prime-rl divides by the tokens of the step"):
        power_mean_loss(sequences(stale_batch())[0], **HMPO, length_weight="equal")


def test_a_sequence_without_tokens_keeps_a_graph_and_finite_metrics(power_mean_loss):
    batch = stale_batch()
    batch.logprobs.requires_grad_()
    out = power_mean_loss(sequences(batch)[-1], **HMPO)
    assert out.loss == 0
    out.loss.backward()
    assert not bool(batch.logprobs.grad.any())
    assert all(bool(value.isfinite()) and value.dim() == 0 for value in out.metrics.values())


def test_weights_of_the_component_multiply_the_sequence(power_mean_loss):
    inputs = sequences(stale_batch())[1]
    plain = power_mean_loss(inputs, **HMPO).loss
    inputs.loss_weights = torch.full_like(inputs.advantages, 0.25)
    torch.testing.assert_close(power_mean_loss(inputs, **HMPO).loss, 0.25 * plain)


@pytest.mark.parametrize("name", ["advantages", "loss_weights"])
def test_numbers_that_differ_within_a_sequence_are_refused(power_mean_loss, name):
    inputs = sequences(stale_batch())[1]
    setattr(inputs, name, torch.arange(len(inputs.advantages), dtype=torch.float64))
    with pytest.raises(ValueError, match=f"{name} differ within a sequence"):
        power_mean_loss(inputs, **HMPO)


def test_the_examples_table_calls_the_function_and_is_hmpo(power_mean_loss):
    loss = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))["trainer"]["loss"]
    assert (loss["type"], loss["import_path"]) == ("custom", "hmpo_lib.integrations.prime_rl.power_mean_loss")
    hmpo = METHODS["hmpo"].objective
    kwargs = loss["kwargs"]
    assert (kwargs["p"], kwargs["clip"]) == (hmpo.p, hmpo.clip)
    assert kwargs["clip_range"] == pytest.approx(hmpo.clip_range, rel=1e-3)
    assert step(power_mean_loss, stale_batch(), **kwargs).isfinite()


def test_without_prime_rl_the_error_says_where_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "prime_rl.trainer.rl.loss", None)
    monkeypatch.setitem(sys.modules, "prime_rl", None)
    monkeypatch.delitem(sys.modules, "hmpo_lib.integrations.prime_rl", raising=False)
    with pytest.raises(ModuleNotFoundError, match="needs prime-rl"):
        importlib.import_module("hmpo_lib.integrations.prime_rl")
