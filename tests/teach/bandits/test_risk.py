"""Rare events and divided advantages of notebook 05: the worlds, the divisions, the traces and the panel."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hmpo_lib import Method, Objective
from hmpo_lib.bandit_learning import sampled_gradients
from hmpo_lib.bandits import sequence_probabilities
from hmpo_lib.teach.bandits.risk_experiment import (
    EVENTS,
    average_advantages,
    divisions,
    event_world,
    first_policy,
    learn_risk,
    reward_std,
    std_of_the_others,
)
from hmpo_lib.teach.bandits.risk_panel import SHOWN_EVENTS, risk_caption, risk_explorer, view_risk
from hmpo_lib.teach.bandits.risk_recording import (
    DIVISIONS,
    RISK_RECORDED,
    SIZES,
    STALE_EXPONENTS,
    STALE_SIZES,
    load_risk_traces,
)

from ...scripts import load_script

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def traces():
    return load_risk_traces()


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_changes_no_expected_reward(event):
    calm, bandit = event_world("nothing"), event_world(event)
    torch.testing.assert_close(bandit.expected_rewards, calm.expected_rewards)
    assert bandit.risk.max().item() == (0.05 if EVENTS[event] else 0.0)


def test_std_of_the_others_is_numpys_without_the_reward_itself():
    rewards = 7 * torch.randn(3, 6, dtype=torch.float64)
    for row, stds in zip(rewards.numpy(), std_of_the_others(rewards), strict=True):
        for place, found in enumerate(stds.tolist()):
            assert found == pytest.approx(np.delete(row, place).std(ddof=1))
    assert std_of_the_others(torch.ones(1, 4)).tolist() == [[0.5] * 4]  # nothing is divided by 0


def test_spread_of_the_rewards_is_that_of_a_large_sample():
    bandit = event_world("disaster of −10")
    rng = np.random.default_rng(0)
    rows = rng.choice(81, 400_000, p=sequence_probabilities(bandit, first_policy(bandit)).numpy())
    hit = rng.random(400_000) < bandit.risk.numpy()[rows]
    rewards = np.where(hit, bandit.disaster, bandit.rewards.numpy()[rows])
    assert reward_std(bandit, first_policy(bandit)) == pytest.approx(rewards.std(), rel=0.01)


def test_no_reward_is_more_than_n_minus_1_over_root_n_of_its_own_stds_away():
    by_own = divisions(event_world("nothing"))["its own std"]
    for n in (4, 16):
        for disaster in (-10.0, -1e6):
            rewards = torch.cat([torch.tensor([disaster]), torch.rand(n - 1)]).double().unsqueeze(0)
            assert by_own(rewards).abs().max() <= (n - 1) / math.sqrt(n) + 1e-9
        torch.testing.assert_close(by_own(rewards)[0, 0].item(), -(n - 1) / math.sqrt(n), rtol=1e-5, atol=0)


def test_only_division_by_ones_own_std_prefers_the_usual_outcome_over_the_rare_one():
    bandit = event_world("disaster of −10")
    for name, advantages_fn in divisions(bandit).items():
        usual, rare = average_advantages(bandit, advantages_fn, size=16, rollouts=20_000)
        assert usual > 0 > rare
        if name == "its own std":
            assert usual + rare > 0.15
        else:
            assert abs(usual + rare) < 0.04


def test_average_advantage_is_the_slope_of_the_librarys_gradient():
    bandit = event_world("disaster of −10")
    start = first_policy(bandit)
    method = Method(Objective(0.0), "test")
    gradient = sampled_gradients(bandit, method, start, start, seeds=range(4000), batch=16).mean(dim=0)[0, 0]
    total = sum(average_advantages(bandit, divisions(bandit)["its own std"], size=16, rollouts=20_000))
    # π (E[A | risky] − E[A]) over T: what the first choice's logit gets.
    assert gradient[1].item() == pytest.approx(total / 3 / 4, rel=0.15)


def test_checksum_and_command_of_the_traces_are_those_in_the_readme():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(RISK_RECORDED.read_bytes()).hexdigest() in readme
    assert "python tools/record_risk.py" in readme


def test_traces_are_whole_and_some_can_be_learned_again(traces):
    place = (len(EVENTS), len(DIVISIONS))
    assert traces.shares.shape == traces.margins.shape == (*place, len(SIZES), 200)
    assert traces.stale_shares.shape == (len(DIVISIONS), len(STALE_SIZES), len(STALE_EXPONENTS), 200)
    assert traces.parts.shape == (*place, len(SIZES), 2)
    assert all(table.isfinite().all() for table in traces)
    bandit = event_world("disaster of −10")
    assert tuple(divisions(bandit)) == DIVISIONS
    again = learn_risk(bandit, divisions(bandit)["its own std"], size=16, seeds=range(12))
    torch.testing.assert_close(again.share[0].double(), traces.shares[0, 1, 1, :12], atol=0.05, rtol=0)


def test_tool_puts_events_and_divisions_first():
    tool = load_script("tools/record_risk.py")
    rows = [{"x": torch.tensor([float(k)])} for k in range(len(EVENTS) * len(DIVISIONS))]
    for row in rows[: len(DIVISIONS)]:
        row["y"] = torch.zeros(2)
    tables = tool.collect(rows)
    assert tables["x"][1, 2].item() == len(DIVISIONS) + 2
    assert tables["y"].shape == (len(DIVISIONS), 2)


def test_view_takes_each_number_from_its_place_in_the_traces(traces):
    view = view_risk(traces, 32, SHOWN_EVENTS[1])
    assert view.shares["a fixed number"][2][0] == pytest.approx(traces.shares[1, 3, 2].mean().item())
    assert view.parts["std of the others"] == pytest.approx(tuple(traces.parts[1, 2, 2].tolist()))
    assert f"its own std {view.shares['its own std'][2][0]:.2f} (" in risk_caption(view)


def test_risk_panel_shows_every_position(traces, sweep):
    assert len(sweep(risk_explorer(traces))) == len(SIZES) * len(SHOWN_EVENTS)
