"""Records what notebook 05 shows of rare events: python tools/record_risk.py. A minute on one core."""

from itertools import product

import torch
from safetensors.torch import save_file
from torch import Tensor

from hmpo_lib.teach.bandits.risk_experiment import EVENTS, average_advantages, divisions, event_world, learn_risk
from hmpo_lib.teach.bandits.risk_recording import (
    DIVISIONS,
    RISK_RECORDED,
    SIZES,
    STALE_EVENT,
    STALE_EXPONENTS,
    STALE_SIZES,
)

SEEDS = range(200)
SEQUENCES = 2**19  # for the averages in the first rollout
STALE_STEPS = 8


def record(event: str, division: str) -> dict[str, Tensor]:
    """All tables of one world and one way to scale advantages."""
    bandit = event_world(event)
    advantages_fn = divisions(bandit)[division]
    fresh = [learn_risk(bandit, advantages_fn, size=size, seeds=SEEDS) for size in SIZES]
    settings = {"seeds": SEEDS, "exponents": STALE_EXPONENTS, "steps_per_rollout": STALE_STEPS}
    sizes = STALE_SIZES if event == STALE_EVENT else ()
    stale = [learn_risk(bandit, advantages_fn, size=size, **settings) for size in sizes]
    parts = [average_advantages(bandit, advantages_fn, size=size, rollouts=SEQUENCES // size) for size in SIZES]
    tables = {
        "shares": torch.cat([chosen.share for chosen in fresh]),
        "margins": torch.cat([chosen.margin for chosen in fresh]),
        "parts": torch.tensor(parts),
    }
    if stale:
        tables["stale_shares"] = torch.stack([chosen.share for chosen in stale])
        tables["stale_margins"] = torch.stack([chosen.margin for chosen in stale])
    return tables


def collect(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tables with the events, where there are several, and the divisions first."""
    tables = {}
    for name in rows[0]:
        table = torch.stack([row[name] for row in rows if name in row])
        tables[name] = table if len(table) == len(DIVISIONS) else table.unflatten(0, (len(EVENTS), len(DIVISIONS)))
    return {name: table.half().contiguous() for name, table in tables.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    tables = collect([record(event, division) for event, division in product(EVENTS, DIVISIONS)])
    save_file(tables, RISK_RECORDED)
    print({name: tuple(table.shape) for name, table in tables.items()}, f"{RISK_RECORDED.stat().st_size} B")
