"""`python -m benchmarks.lm`: its contestants do the same work, and its arithmetic is right. Nothing here is timed."""

import dataclasses
import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from benchmarks import gpu
from benchmarks.lm import logprobs as logprobs_costs
from benchmarks.lm import memory, report
from benchmarks.lm.floor import multiply_rate, rollout_flops
from benchmarks.lm.peers import compare_sampling, our_rollouts, trl_rollouts
from hmpo_lib import METHODS, policy_loss
from hmpo_lib.lm import load_base_model, sample_completions, sample_prompts

TINY = dataclasses.replace(report.CONFIG, prompts=4, group_size=4, max_new_tokens=12, rollouts=2)
SIZES = logprobs_costs.Sizes(vocabulary=50, width=16, completions=2, tokens=5)

needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="the extra peers is not installed")


@pytest.fixture(scope="module")
def base_model():
    return load_base_model()


@pytest.fixture
def known_costs(monkeypatch):
    """In place of the fresh processes, of which one test is enough."""
    costs = [logprobs_costs.Cost(2**20, 3.0)], [logprobs_costs.Cost(2**22, 2.0)]
    monkeypatch.setattr(logprobs_costs, "compare", lambda *_: costs)


def test_the_report_comes_to_its_end_and_gives_each_ratio(base_model, known_costs):
    lines = list(report.report(*base_model, rounds=2, config=TINY, sizes=SIZES))
    text = "\n".join(lines)
    for pattern in (
        r"sampling .* times as fast",
        r"rollout +hmpo \S+ s",
        r"floor .* times the floor",
        r"peak 1 MiB, full log-softmax 4 MiB: 4 \(4 to 4\) times less",
        r"its time 1\.5 \(1\.5 to 1\.5\) times the other's",
    ):
        assert re.search(pattern, text), text
    assert f"{torch.get_num_threads()} threads" in lines[0]


def test_without_trl_the_report_says_how_to_get_it(base_model, known_costs, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    text = "\n".join(report.report(*base_model, rounds=2, config=TINY, sizes=SIZES))
    assert 'to compare with TRL: pip install "hmpo-lib[peers]"' in text
    assert "floor" in text


@needs_trl
def test_trl_does_the_same_work_as_this_library(base_model):
    config = dataclasses.replace(report.CONFIG, prompts=16, group_size=4, rollouts=3)
    prompts = sample_prompts(config.prompts * config.rollouts, torch.Generator().manual_seed(0))
    model, tokenizer = load_base_model()
    before = [parameter.clone() for parameter in model.parameters()]
    between = []
    theirs = trl_rollouts(model, tokenizer, config, prompts, between=lambda: between.append(None))
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    ours = list(our_rollouts(*load_base_model(), config, prompts))
    assert len(between) == len(theirs) == len(ours) == config.rollouts
    assert [turn.updates for turn in theirs] == [turn.updates for turn in ours] == [config.minibatches] * 3
    completions = config.rollouts * config.prompts * config.group_size
    means = [sum(turn.tokens for turn in turns) / completions for turns in (ours, theirs)]
    # A completion's length has a standard deviation of about 9 tokens; the two draw 192 each.
    assert means[0] == pytest.approx(means[1], abs=4 * 9 * (2 / completions) ** 0.5)


def test_generate_and_sample_completions_draw_as_many_tokens(base_model):
    config = dataclasses.replace(report.CONFIG, rollouts=3)
    before = torch.get_rng_state()
    ours, theirs = ([turn.tokens for turn in side] for side in compare_sampling(*base_model, config))
    assert torch.equal(before, torch.get_rng_state())
    assert sum(ours) == pytest.approx(sum(theirs), rel=0.15)


def test_operations_are_counted_as_one_would_by_hand(base_model):
    _, tokenizer = base_model
    width, layers, context = 8, 3, 40
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=width, n_layer=layers, n_head=2, n_positions=context)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval()
    prompts = ["1+2+3=", "10+11+12="]
    rollout = sample_completions(model, tokenizer, prompts, group_size=2, max_new_tokens=5)
    flops = rollout_flops(model, rollout, group_size=2)
    blocks = layers * 12 * width**2  # attention 4, feed-forward 8: as in every GPT-2
    forward = 0
    for row in range(4):
        prompt, length = int(rollout.prompt_mask[row].sum()), int(rollout.completion_mask[row].sum())
        first = 1 if row % 2 == 0 else prompt + 1  # a prompt is read once for its group
        for position in range(first, prompt + length):  # the completion's last token is not read
            forward += 2 * blocks + 4 * layers * width * position
        forward += 2 * width * len(tokenizer) * length
    assert tuple(flops) == pytest.approx((forward, 3 * forward), rel=1e-12)


def test_the_rate_of_multiplication_is_a_rate():
    assert 1e6 < multiply_rate((64, 64, 64), torch.device("cpu"), torch.float32) < 1e15


def test_both_ways_of_log_probabilities_agree_with_their_gradients():
    model, rollout = logprobs_costs.model_and_rollout(SIZES)
    found = {}
    for name, way in logprobs_costs.WAYS.items():
        model.zero_grad()
        logprobs = way(model, rollout)
        (logprobs * torch.linspace(-1, 1, logprobs.numel()).view_as(logprobs)).sum().backward()
        found[name] = (logprobs.detach(), [parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(found["hmpo"], found["plain"], rtol=1e-4, atol=1e-5)


def test_the_plain_way_holds_at_least_one_log_softmax_of_everything():
    sizes = logprobs_costs.Sizes(vocabulary=50_000, width=16, completions=4, tokens=32)
    logits = 4 * sizes.vocabulary * sizes.completions * sizes.tokens  # bytes
    _, (plain,) = logprobs_costs.compare(sizes, "cpu", torch.float32, rounds=1)
    assert plain.peak > 1.9 * logits


@pytest.mark.parametrize("shape", [memory.Shape(64, 192, 5, 4, 4, 50), memory.Shape(96, 160, 4, 6, 2, 30)])
def test_the_computed_memory_is_that_of_the_models_weights_and_of_what_torch_keeps(shape):
    with torch.random.fork_rng():
        assert shape.parameters == memory.make(shape).num_parameters()
        counted = memory.saved_of_a_position(shape)
    assert shape.activations() == pytest.approx(counted, rel=0.1)
    assert shape.step(100, copies=2) - shape.step(0) == 100 * shape.activations() + 2 * 4 * shape.parameters


def test_the_table_in_the_docs_is_the_computed_one():
    assert memory.table() in (memory.ROOT / "docs" / "memory.md").read_text(encoding="utf-8")


def test_help_names_the_options():
    command = [sys.executable, "-m", "benchmarks.lm", "--help"]
    result = subprocess.run(command, cwd=logprobs_costs.ROOT, capture_output=True, text=True, check=True)
    assert "--rounds" in result.stdout


# --- benchmarks.gpu --------------------------------------------------------------------------------------------------


def test_the_plain_loss_beside_ours_is_the_same_loss():
    new, old = (-torch.rand(2, 3, 5)).unbind()
    advantages, mask = torch.tensor([1.0, -1.0, 0.5]), torch.arange(5) < torch.tensor([[5], [2], [3]])
    expected = policy_loss(new, old, advantages, mask, METHODS["grpo"].objective).loss
    torch.testing.assert_close(gpu.plain_loss(new, old, advantages, mask.float()), expected)


def test_the_memory_of_a_step_is_computed_as_notebook_10_does_for_qwen3():
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**gpu.QWEN))
    weights = sum(weight.numel() for weight in model.parameters())
    assert gpu._computed(model, 1) - 16 * weights == 4 * 28 * 30_720
    assert weights == 596_049_920
