"""Two ranks of the TRL trainer learn what one process learns from the same completions, and stay bit-equal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("trl", reason="needs TRL: run `make oracles`", exc_type=ImportError)

PROGRAM = Path(__file__).with_name("two_ranks.py")
# Also on a machine that has a GPU. (`--cpu --num_processes 2` would start one process only.)
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
CASES = [
    *(f"{weight}{what}" for weight in ("equal", "constant", "proportional") for what in (
        "", ", 8 and 3 completions", ", one rank without tokens", ", two micro-batches"
    )),
    "schedule of p",
    "QK-Clip",
]  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """What every rank ended with: file name -> tensors."""
    out = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    for launch in ([], LAUNCH):
        run = subprocess.run(
            [sys.executable, *launch, str(PROGRAM), str(out)], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr[-3000:]
    return {path.stem: load_file(path) for path in out.glob("*.safetensors")}


def flat(tensors, kind):
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors) if name.startswith(kind)])


def test_every_case_ran(weights):
    assert {name.rsplit(" rank ", 1)[0] for name in weights} == set(CASES)
    assert len(weights) == 3 * len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_replicas_are_bit_equal(weights, case):
    first, second = (weights[f"{case} rank {rank} of 2"] for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_end_where_one_process_does(weights, case):
    one, two = weights[f"{case} rank 0 of 1"], weights[f"{case} rank 0 of 2"]
    moved = torch.linalg.vector_norm(flat(one, "moved/"))
    assert float(moved) > 1e-2
    assert float(torch.linalg.vector_norm(flat(one, "after/") - flat(two, "after/"))) <= 5e-5 * float(moved)


def test_other_length_weights_end_elsewhere(weights):
    ends = [
        flat(weights[f"{weight}, 8 and 3 completions rank 0 of 2"], "after/") for weight in ("equal", "proportional")
    ]
    moved = torch.linalg.vector_norm(flat(weights["equal, 8 and 3 completions rank 0 of 1"], "moved/"))
    assert float(torch.linalg.vector_norm(ends[0] - ends[1])) > 1e-2 * float(moved)


def test_qk_clip_scales_the_same_heads_on_both_ranks(weights):
    clipped = [weights[f"QK-Clip rank {rank} of {ranks}"]["heads_clipped"] for rank, ranks in ((0, 1), (0, 2), (1, 2))]
    assert len(set(map(int, clipped))) == 1
    assert int(clipped[0]) > 0
