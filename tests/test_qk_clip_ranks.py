"""Ranks that see different data clip alike: two processes, gloo, against one process that sees all of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from .tiny_models import backward, tiny_model, with_random_weights
from .two_ranks import FAMILIES, SHARDED, STEPS, batch_of, heat, make_clip, make_muon_clip, outcome

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo"
)


RANK = f"""
import runpy, sys, types
tests = types.ModuleType("tests")
tests.__path__ = [{str(ROOT / "tests")!r}]
sys.modules["tests"] = tests
runpy.run_module("tests.two_ranks", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    # Not `-m tests.two_ranks`: verl, where it is installed, has a package `tests` of its own.
    command = [sys.executable, "-c", RANK]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"rank{rank}", weights_only=True) for rank in range(2)]


def alone(model, make=make_clip):
    """One process that sees both ranks' data before each step; its gradient is their mean."""
    optimizer = make(model)
    for step in range(STEPS):
        for rank in range(2):
            backward(model, batch_of(step, rank))
        for weight in model.parameters():
            weight.grad /= 2
        optimizer.step()
        optimizer.zero_grad()
        heat(optimizer)
    return outcome(model, optimizer)


def largest_difference(one, other):
    assert one["weights"].keys() == other["weights"].keys()
    return max(float((x - other["weights"][name]).abs().max()) for name, x in one["weights"].items())


@pytest.mark.parametrize("family", FAMILIES)
def test_replicas_keep_equal_bits_and_move_as_one_process_does(family, ranks):
    first, second = (rank[f"replicated {family}"] for rank in ranks)
    assert largest_difference(first, second) == 0
    expected = alone(tiny_model(family))
    assert first["clipped"] == second["clipped"] == expected["clipped"]
    assert all(first["clipped"])
    assert largest_difference(first, expected) < 1e-12


def test_each_for_itself_replicas_would_drift_apart(ranks):
    assert largest_difference(*(rank["each for itself"] for rank in ranks)) > 1e-3


@pytest.mark.parametrize("family", SHARDED)
def test_weights_that_are_cut_inside_a_head_move_as_whole_ones(family, ranks):
    first, second = (rank[f"sharded {family}"] for rank in ranks)
    assert largest_difference(first, second) == 0
    expected = alone(with_random_weights(SHARDED[family]()))
    assert first["clipped"] == expected["clipped"]
    assert all(first["clipped"])
    assert largest_difference(first, expected) < 1e-12


def test_it_does_not_matter_whether_the_model_is_sharded_before_or_after(ranks):
    first, second = (rank["sharded later"] for rank in ranks)
    assert largest_difference(first, second) == 0
    assert largest_difference(first, ranks[0]["sharded llama"]) < 1e-12


@pytest.mark.parametrize("family", SHARDED)
def test_muon_moves_matrices_that_no_rank_holds_as_whole_ones(family, ranks):
    first, second = (rank[f"muon {family}"] for rank in ranks)
    assert largest_difference(first, second) == 0
    expected = alone(with_random_weights(SHARDED[family]()), make_muon_clip)
    assert first["clipped"] == expected["clipped"]
    assert all(first["clipped"])
    assert largest_difference(first, expected) < 1e-6  # Newton-Schulz is in bfloat16


def test_a_rank_that_saw_nothing_clips_with_the_others(ranks):
    first, second = (rank["seen by one"] for rank in ranks)
    assert first["clipped"] == second["clipped"] != [0]
    assert largest_difference(first, second) == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan on one", "FloatingPointError: model.layers.0.self_attn has the maximum logits"),
        ("nothing anywhere", "ValueError: no attention logits were captured in model.layers.0.self_attn"),
        ("other thresholds", "ValueError: the ranks have different things to clip"),
        ("tensor parallel", "ValueError: model.layers.0.self_attn.q_proj is split over ranks by tensor parallelism"),
        ("FSDP1", "expected a matrix; FullyShardedDataParallel (FSDP1) and ZeRO-3 take matrices apart"),
    ],
)
def test_what_is_wrong_on_one_rank_stops_all_by_name(fault, message, ranks):
    for rank in ranks:
        assert message in rank["failures"][fault]
