"""What every test relies on: no network, no chance, no dependence on the order."""

import os

# Before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings

from .sweeps import sweep as sweep_panel

# The same examples on every machine and in every run. Time limits would fail on a busy machine, not on a wrong program.
settings.register_profile("hmpo", derandomize=True, deadline=None)
settings.load_profile("hmpo")


@pytest.fixture(autouse=True)
def _fixed_seed():
    """The library draws from its own generators; this one is for the tests that say `torch.randn`."""
    torch.manual_seed(0)


@pytest.fixture
def sweep() -> Callable:
    """`sweeps.sweep(panel, samples=None, *, still=())`: looks at a panel in every position of its controls."""
    return sweep_panel
