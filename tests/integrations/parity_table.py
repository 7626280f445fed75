"""How near the integrations are to the engines' own losses and to `policy_loss`: prints the tables of docs/engines.md.

    make engines

Largest relative difference of the loss, and of the gradient (Euclidean norm), over the settings of a row.
"""

import itertools
import warnings
from importlib.metadata import version

import pytest
import torch

from hmpo_lib import METHODS

from . import test_trl as trl
from . import test_verl as verl
from .trl_tiny import inputs, loss_and_gradient, trainer

HEAD = "| engine | method | setting | loss | gradient |\n|---|---|---|---|---|"


def relative(a, b):
    """The two numbers of a pair of (loss, gradient)."""
    loss = (a[0] - b[0]).abs() / b[0].abs().clamp(min=1e-3)
    return float(loss), float(torch.linalg.vector_norm(a[1] - b[1]) / torch.linalg.vector_norm(b[1]))


def row(engine, method, setting, pairs):
    """A line of the table."""
    loss, gradient = (max(column) for column in zip(*pairs, strict=True))
    return f"| {engine} | {method} | {setting} | {loss:.1e} | {gradient:.1e} |"


def trl_rows():
    """TRL's own losses: each length weight and clip, over the sixteen settings."""
    ours, theirs = trainer({"objective": "hmpo"}), trainer(loss_type="grpo")
    engine = f"TRL {version('trl')}"
    whole = inputs(theirs)
    for weight, level in itertools.product(trl.LOSS_TYPES, trl.RANGES):
        pairs = []
        for beta, steps, stale, accumulation in itertools.product((0.0, 0.04), (1, 2), (True, False), (1, 2)):
            with pytest.MonkeyPatch.context() as patch:
                trl.as_trls(ours, theirs, patch, weight, level)
                for made in (ours, theirs):
                    patch.setattr(made, "beta", beta)
                    patch.setattr(made, "current_gradient_accumulation_steps", accumulation)
                    patch.setattr(made.args, "steps_per_generation", steps)
                    patch.setattr(made.args, "use_bias_correction_kl", level == "token")
                batch = {name: x for name, x in whole.items() if stale or name != "old_per_token_logps"}
                pairs.append(relative(loss_and_gradient(ours, batch), loss_and_gradient(theirs, batch)))
        name = {"token": "GRPO", "sequence": "GSPO"}[level]
        yield row(engine, f"{name}, {trl.LOSS_TYPES[weight]}", "16 settings, its own loss", pairs)


def verl_rows():
    """verl's own losses, and `policy_loss` of the whole batch for micro-batches on two ranks."""
    engine = f"verl {version('verl')}"
    for own, objective in verl.OWN_LOSSES:
        asked = itertools.product(verl.MODES, range(5))
        pairs = [relative(*verl.ours_and_verls(own, objective, mode, seed)) for mode, seed in asked]
        yield row(engine, own, "5 modes, its own loss", pairs)
    for name in METHODS:
        if name != verl.REFUSED:
            pairs = [relative(*verl.split_and_whole(name, mode)) for mode in verl.MODES]
            yield row(engine, f"power_mean_{name}", "5 modes, 2 ranks, micro-batches", pairs)


def test_print_the_tables(capsys):
    """Not collected by name: `make engines` asks for this file."""
    pytest.importorskip("trl", reason="needs TRL: run `make oracles`", exc_type=ImportError)
    with warnings.catch_warnings(), capsys.disabled():
        warnings.simplefilter("ignore")
        print(f"\n{HEAD}")
        for line in itertools.chain(trl_rows(), verl_rows()):
            print(line, flush=True)
