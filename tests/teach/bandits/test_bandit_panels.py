"""The worlds, traces and panels of notebook 05, against sums written out in numpy, scipy and the provenance."""

import asyncio
import hashlib
import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from scipy.special import softmax

from hmpo_lib import Objective
from hmpo_lib.bandits import gradient_statistics, sequence_bandit
from hmpo_lib.evaluation import bootstrap_interval
from hmpo_lib.teach.bandits.bandit_drawings import BINS, LIMIT
from hmpo_lib.teach.bandits.bandit_panel import PESSIMISTIC, bandit_caption, bandit_explorer, first_world, view_bandits
from hmpo_lib.teach.bandits.bandit_recording import (
    CLIPS,
    CURVE_STEPS,
    EXPONENTS,
    LEARNING_RATE,
    LENGTHS,
    RATE_METHODS,
    RATE_STALENESS,
    RATES,
    RECORDED,
    STALENESS,
    load_bandit_traces,
    mean_intervals,
    stability_frontier,
)
from hmpo_lib.teach.bandits.flip_panel import flip_caption, flip_explorer, view_flip
from hmpo_lib.teach.bandits.learning_live import learn_worlds, learning_live
from hmpo_lib.teach.bandits.stability_panel import STYLES, stability_explorer, view_stability
from hmpo_lib.teach.bandits.worlds_experiment import (
    KINDS,
    log_ratio_variance,
    random_world,
    signed_gradients,
    take_steps,
)
from hmpo_lib.teach.plotting import MEAN_STYLES
from hmpo_lib.teach.shared.log_histograms import bin_shares

from ...sweeps import ink_on_the_edge

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def traces():
    return load_bandit_traces()


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("record_bandits", ROOT / "tools" / "record_bandits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_case():
    """Four letters' places among three letters, paid by the pairs `ab`, and a policy eight steps on."""
    bandit = sequence_bandit(lambda x, mask: ((x[:, :-1] == 0) & (x[:, 1:] == 1)).sum(1), tokens=3, length=4)
    old = torch.zeros(4, 1, 3, dtype=torch.float64)
    return bandit, take_steps(bandit, old, 8, learning_rate=0.5), old


def by_loops(rewards, new_logits, old_logits, p):
    """Every sequence's probability, advantage, log-ratios, pushes and scores, one by one; no code of the library."""
    new, old = softmax(new_logits.numpy()[:, 0], axis=1), softmax(old_logits.numpy()[:, 0], axis=1)
    length, tokens = new.shape
    sequences = list(itertools.product(range(tokens), repeat=length))
    chances = [math.prod(old[t, x] for t, x in enumerate(s)) for s in sequences]
    worth = sum(c * r for c, r in zip(chances, rewards.tolist(), strict=True))
    for sequence, chance, reward in zip(sequences, chances, rewards.tolist(), strict=True):
        ratios = np.array([new[t, x] / old[t, x] for t, x in enumerate(sequence)])
        q = p(reward - worth) if callable(p) else p
        mean = stats.pmean(ratios, q)
        weights = ratios**q / (ratios**q).sum()
        scores = np.eye(tokens)[list(sequence)] - new
        yield chance, reward - worth, ratios, (reward - worth) * mean * weights, scores


def expected_gradients(rewards, new_logits, old_logits, p):
    good, bad = np.zeros(new_logits[:, 0].shape), np.zeros(new_logits[:, 0].shape)
    for chance, advantage, _, pushes, scores in by_loops(rewards, new_logits, old_logits, p):
        part = good if advantage > 0 else bad
        part += chance * pushes[:, None] * scores
    return good, bad


# --- worlds ----------------------------------------------------------------------------------------------------------


def unexplained(rewards, length):
    """The share of the rewards' variance that the tokens' own effects leave over."""
    table = rewards.numpy().reshape([4] * length)
    effects = sum(
        table.mean(axis=tuple(a for a in range(length) if a != place), keepdims=True) - table.mean()
        for place in range(length)
    )
    return (table - table.mean() - effects).var() / table.var()


def test_rewards_token_by_token_are_sums_and_rewards_as_a_whole_are_not():
    for seed in range(5):
        assert unexplained(random_world("token by token", 4, seed).bandit.rewards, 4) < 1e-20
        assert unexplained(random_world("as a whole", 4, seed).bandit.rewards, 4) > 0.8


def test_a_world_is_that_of_its_seed_and_a_kind_that_is_none_is_refused():
    first, again, other = (random_world(KINDS[0], 3, seed) for seed in (1, 1, 2))
    assert torch.equal(first.bandit.rewards, again.bandit.rewards)
    assert torch.equal(first.start, again.start)
    assert not torch.equal(first.bandit.rewards, other.bandit.rewards)
    with pytest.raises(ValueError, match="expected one of token by token, as a whole"):
        random_world("by chance", 3, 0)


def test_a_step_follows_the_policy_gradient_in_units_of_the_rewards_spread():
    bandit, start = random_world("as a whole", 1, seed=3)
    pi, rewards = softmax(start.numpy().ravel()), bandit.rewards.numpy()
    mean = pi @ rewards
    expected = start.numpy().ravel() + 0.7 * pi * (rewards - mean) / math.sqrt(pi @ (rewards - mean) ** 2)
    moved = take_steps(bandit, start, 1, learning_rate=0.7)
    np.testing.assert_allclose(moved.numpy().ravel(), expected, rtol=1e-12)
    assert torch.equal(take_steps(bandit, start, 0, learning_rate=0.7), start)


# --- the two signs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [-2.0, -1.0, 0.5, 1.0])
def test_parts_of_the_gradient_are_sums_over_good_and_over_bad_sequences(p):
    bandit, new, old = small_case()
    good, bad = signed_gradients(bandit, new, old, p)
    by_hand = expected_gradients(bandit.rewards, new, old, p)
    np.testing.assert_allclose(good[:, 0].numpy(), by_hand[0], atol=1e-12)
    np.testing.assert_allclose(bad[:, 0].numpy(), by_hand[1], atol=1e-12)
    torch.testing.assert_close(good + bad, gradient_statistics(bandit, new, old, Objective(p)).expected)
    other = expected_gradients(bandit.rewards, new, old, -p)  # the sign of p turned round is another gradient
    assert not np.allclose(good[:, 0].numpy(), other[0], atol=1e-3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("p", [-1.0, 1.0])
def test_change_of_the_spread_is_that_of_a_small_step(p, turned):
    bandit, new, old = small_case()
    view = view_flip(bandit, new, old, p, turned)
    assert view.p_bad == (-p if turned else p)
    parts = expected_gradients(bandit.rewards, new, old, lambda advantage: p if advantage > 0 else view.p_bad)
    before = log_ratio_variance(bandit, new, old)
    for part, rate in zip(parts, (view.good_rate, view.bad_rate), strict=True):
        moved = new + 1e-6 * 4 * torch.from_numpy(part).unsqueeze(1)
        assert ((log_ratio_variance(bandit, moved, old) / before - 1) / 1e-6).item() == pytest.approx(rate, abs=1e-4)


def test_spread_is_the_expected_variance_within_a_sequence():
    bandit, new, old = small_case()
    by_hand = sum(chance * np.log(r).var() for chance, _, r, _, _ in by_loops(bandit.rewards, new, old, 1.0))
    assert log_ratio_variance(bandit, new, old).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("p", [-1.0, 1.0])
def test_loudness_of_a_token_is_its_mean_push_over_the_mean_advantage(p):
    bandit, new, old = small_case()
    view = view_flip(bandit, new, old, p, False)
    for sign, tokens in ((1, view.good), (-1, view.bad)):
        pushed, advantages = {}, {}
        for chance, advantage, ratios, pushes, scores in by_loops(bandit.rewards, new, old, p):
            if advantage * sign > 0:
                for t in range(4):
                    place = (t, int(scores[t].argmax()))
                    ratio = pushed.setdefault(place, [ratios[t], 0.0])
                    ratio[1] += chance * 4 * pushes[t]
                    advantages[place] = advantages.get(place, 0.0) + chance * advantage
        expected = sorted((ratio, push / advantages[place]) for place, (ratio, push) in pushed.items())
        np.testing.assert_allclose(tokens, expected, rtol=1e-9)


def test_spread_grows_with_p_for_good_sequences_and_falls_with_p_for_bad_ones():
    bandit, new, old = small_case()
    views = [view_flip(bandit, new, old, p, False) for p in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    assert (np.diff([view.good_rate for view in views]) > 0).all()
    assert (np.diff([view.bad_rate for view in views]) < 0).all()


def test_caption_of_the_flip_names_the_token_that_each_sign_pushes_hardest():
    bandit, new, old = small_case()
    caption = flip_caption(view_flip(bandit, new, old, -1.0, False))
    assert caption.startswith("harmonic (HMPO), p = −1: A > 0 pushes the token at 0.50 most")
    assert "A < 0 pushes the token at 0.50 most" in caption
    turned = flip_caption(view_flip(bandit, new, old, -1.0, True))
    assert turned.startswith("p = −1 and 1: A > 0 pushes the token at 0.50 most")
    assert "A < 0 pushes the token at 1.81 most" in turned
    assert "all tokens nearly alike" in flip_caption(view_flip(bandit, old + 0.001 * new, old, 1.0, False))


def test_flip_panel_shows_every_position(sweep):
    shown = sweep(flip_explorer(*small_case()))
    assert len(shown) == 17 * 2
    assert len({view.caption for view in shown}) == 33  # at p = 0 turning the sign changes nothing


# --- bias and variance -----------------------------------------------------------------------------------------------


def test_own_ratio_is_what_the_arithmetic_mean_hears_so_additive_rewards_leave_it_without_bias():
    for seed, length in itertools.product(range(3), (2, 4)):
        for kind in KINDS:
            bandit, old = random_world(kind, length, seed)
            new = take_steps(bandit, old, 9, learning_rate=0.5)
            statistics = gradient_statistics(bandit, new, old, Objective(1.0))
            off = (length * statistics.expected - statistics.true).norm() / statistics.true.norm()
            assert off < 1e-12 if kind == "token by token" else off > 0.01


def test_expected_gradient_of_a_fixed_p_does_not_see_a_risk_but_a_clip_does():
    def rewards(x, mask):
        return (x[:, 1:] == 0).sum(1) + 2.5 * (x[:, 0] == 1)

    def same_on_average(x, mask):  # earns −4 with probability 1/4, and for that more in the other cases
        return torch.where(x[:, 0] == 1, (rewards(x, mask) + 1.0) / 0.75, rewards(x, mask))

    calm = sequence_bandit(rewards, tokens=3, length=3)
    risky = sequence_bandit(
        same_on_average, tokens=3, length=3, risk_fn=lambda x, mask: 0.25 * (x[:, 0] == 1), disaster=-4.0
    )
    old = torch.zeros(3, 1, 3, dtype=torch.float64)
    new = take_steps(calm, old, 6, learning_rate=0.5)
    for p in (-1.0, 0.0, 1.0):
        first, second = (gradient_statistics(w, new, old, Objective(p)) for w in (calm, risky))
        torch.testing.assert_close(first.expected, second.expected)
        assert second.variance > 1.5 * first.variance
    clipped = [gradient_statistics(w, new, old, Objective(1.0, "token", (0.9, 1.1))).expected for w in (calm, risky)]
    assert not torch.allclose(*clipped, rtol=1e-2)


# --- the traces ------------------------------------------------------------------------------------------------------


def test_checksum_and_command_of_the_traces_are_those_in_the_readme():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(RECORDED.read_bytes()).hexdigest() in readme
    assert "python tools/record_bandits.py" in readme
    assert RECORDED.stat().st_size < 600_000


def test_traces_are_whole(traces):
    settings = (len(KINDS), len(LENGTHS), len(STALENESS))
    assert traces.errors.shape == (*settings, len(CLIPS), len(EXPONENTS) + 1, 2, 20)
    assert traces.product_errors.shape == (*settings, 2, 20)
    assert traces.gains.shape == (*settings, len(CLIPS), len(EXPONENTS) + 1, len(CURVE_STEPS), 12)
    assert traces.rate_gains.shape == (len(KINDS), len(RATE_STALENESS), len(RATES), len(RATE_METHODS), 16)
    for table in traces:
        assert table.isfinite().all()
    assert (traces.gains[..., 0, :].abs() < 1e-3).all()
    assert traces.gains.max() <= 1.001
    assert traces.rate_gains.max() <= 1.001


def test_on_policy_and_with_one_choice_all_means_are_the_same_in_the_traces(traces):
    unclipped = traces.errors[:, :, :, 0]
    assert (unclipped[:, :, 0, :, 0] < 1e-3).all()  # on policy no bias
    assert (unclipped[:, 0, :, :, 0] < 1e-3).all()  # nor with one choice
    for same in (unclipped[:, :, 0, :, 1], unclipped[:, 0, :, :, 1]):
        assert (same - same[..., :1, :]).abs().max() < 0.01
    assert (traces.gains[:, :, 0] == traces.gains[:, :, 0, :1, :1]).all()
    assert (traces.gains[:, 0] == traces.gains[:, 0, :, :, :1]).all()
    assert (traces.product_errors[..., 0, :] < 1e-3).all()
    assert (traces.errors[0, :, :, 0, EXPONENTS.index(1.0), 0] < 1e-3).all()  # the exact one, token by token


@pytest.mark.parametrize(("kind", "length", "staleness", "world"), [(0, 2, 3, 5), (1, 2, 15, 0), (1, 4, 7, 19)])
def test_recorded_bias_and_error_are_those_of_the_written_out_sums(traces, kind, length, staleness, world):
    bandit, old = random_world(KINDS[kind], length, world)
    new = take_steps(bandit, old, staleness, learning_rate=LEARNING_RATE)
    place = (kind, LENGTHS.index(length), STALENESS.index(staleness))
    true = gradient_statistics(bandit, new, old, None).true[:, 0].numpy()
    cases = {k: p for k, p in enumerate(EXPONENTS) if p != 0} | {PESSIMISTIC: lambda advantage: -np.sign(advantage)}
    for method, p in cases.items():
        gradients, chances = [], []
        for chance, _, _, pushes, scores in by_loops(bandit.rewards, new, old, p):
            gradients.append(length * pushes[:, None] * scores)
            chances.append(chance)
        mean = np.average(gradients, axis=0, weights=chances)
        variance = np.average((np.array(gradients) - mean) ** 2, axis=0, weights=chances).sum()
        expected = np.array([np.linalg.norm(mean - true), math.sqrt(variance / 64)]) / np.linalg.norm(true)
        np.testing.assert_allclose(traces.errors[(*place, 0, method)][:, world], expected, rtol=2e-3, atol=1e-4)


def test_recorded_curve_can_be_learned_again(traces, tool):
    world = random_world(KINDS[1], 2, 4)
    gains = tool.learning_gains(world, 4, 3).mean(dim=-2)
    # Another machine's sums differ in their last digits, and in a sampled token sooner or later.
    torch.testing.assert_close(gains.double(), traces.gains[1, 1, 2, ..., 4], atol=0.05, rtol=0)
    rates = tool.rate_gains(random_world(KINDS[0], 4, 2), 2, 3, RATES[1])
    torch.testing.assert_close(rates.double(), traces.rate_gains[0, 1, 1, :, 2], atol=0.05, rtol=0)


def test_tool_puts_the_worlds_last_and_the_kinds_first(tool, monkeypatch):
    small = {"LENGTHS": (1, 2), "STALENESS": (0, 1), "CURVE_STEPS": (0, 2), "RATES": (1.0,), "RATE_STALENESS": (0,)}
    small |= {"BIAS_WORLDS": range(3), "CURVE_WORLDS": range(2), "RATE_WORLDS": range(1)}
    for name, value in small.items():
        monkeypatch.setattr(tool, name, value)
    tables = tool.collect([[tool.record_kind(kind, seed) for seed in range(3)] for kind in KINDS])
    methods = len(EXPONENTS) + 1
    assert {name: tuple(table.shape) for name, table in tables.items()} == {
        "errors": (2, 2, 2, 3, methods, 2, 3),
        "product_errors": (2, 2, 2, 2, 3),
        "gains": (2, 2, 2, 3, methods, 2, 2),
        "rate_gains": (2, 1, 1, len(RATE_METHODS), 1),
    }


def test_traces_can_be_another_file_and_a_missing_one_is_said(traces, tmp_path):
    path = tmp_path / "own.safetensors"
    save_file({name: table.half() for name, table in traces._asdict().items()}, path)
    torch.testing.assert_close(load_bandit_traces(str(path)).errors, traces.errors)
    with pytest.raises(FileNotFoundError, match="data/results/ has it"):
        load_bandit_traces(tmp_path / "none.safetensors")


def test_intervals_are_the_percentile_bootstraps_of_scipy_and_of_the_library():
    values = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mean, low, high = mean_intervals(values)
    for k, row in enumerate(values):
        ours = bootstrap_interval(row, lambda x: x.mean(dim=(-2, -1)))
        theirs = stats.bootstrap(
            (row.numpy(),), np.mean, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert mean[k].item() == pytest.approx(row.mean().item())
        for end, other, another in ((low, ours.low, theirs.low), (high, ours.high, theirs.high)):
            assert end[k].item() == pytest.approx(other, abs=0.06)
            assert end[k].item() == pytest.approx(another, abs=0.06)


def test_frontier_is_the_last_rate_before_the_first_collapse():
    table = torch.zeros(1, 1, len(RATES), 4, 1)
    table[0, 0, :, 0, 0] = torch.tensor([0.2, 0.9, 1.0, 0.8, 0.4, 0.9, 0.1, 0.1, 0.1, 0.1])  # slow at first, then gone
    table[0, 0, :, 1, 0] = 0.6  # never
    table[0, 0, :, 2, 0] = torch.tensor([0.7] + [0.1] * 9)  # at once
    table[0, 0, :, 3, 0] = torch.tensor([0.1] * 9 + [0.6])  # slow to the end
    frontier = stability_frontier(table)
    assert frontier.holds[0, 0, :, 0].tolist() == [3, 9, 0, 9]
    assert frontier.to_the_end[0, 0, :, 0].tolist() == [False, True, False, True]


# --- the panels ------------------------------------------------------------------------------------------------------


def test_main_panel_shows_every_position(traces, sweep):
    shown = sweep(bandit_explorer(traces))
    assert all("nan" not in view.alt + view.caption for view in shown)


def test_stability_panel_shows_every_position(traces, sweep):
    shown = sweep(stability_explorer(traces))
    assert len(shown) == len(RATE_STALENESS) * len(KINDS)


def test_view_takes_each_number_from_its_place_in_the_traces(traces):
    view = view_bandits(traces, 1.0, 7, 4, "no clip", "as a whole")
    errors = traces.errors[1, 2, 3, 0]
    assert view.bias == pytest.approx(errors[:, 0].mean(-1).tolist())
    assert view.bias_interval[0] == pytest.approx(view.bias[EXPONENTS.index(1.0)])
    assert view.error_interval[1] < view.error[EXPONENTS.index(1.0)] < view.error_interval[2]
    assert view.curves["chosen"] == view.curves["arithmetic"] != view.curves["harmonic"]
    place = EXPONENTS.index(MEAN_STYLES["harmonic"].p)
    assert view.curves["harmonic"][0] == pytest.approx(traces.gains[1, 2, 3, 0, place].mean(-1).tolist())
    assert f"bias {view.bias[EXPONENTS.index(1.0)]:.2f} (" in bandit_caption(view)


def test_histograms_are_numpys_weighted_by_the_policy_that_sampled():
    log_ratios, old = first_world("as a whole", 4, 7)
    assert old.sum().item() == pytest.approx(1.0)
    products = log_ratios.sum(dim=1)
    expected, _ = np.histogram(
        products.clamp(-LIMIT + 1e-9, LIMIT - 1e-9).numpy(), BINS, (-LIMIT, LIMIT), weights=old.numpy()
    )
    np.testing.assert_allclose(bin_shares(products, old, limit=LIMIT, bins=BINS), expected, atol=1e-9)
    shares = bin_shares(torch.tensor([-9.0, 0.0, 9.0]), torch.tensor([1.0, 2.0, 1.0]), limit=LIMIT, bins=BINS)
    assert shares[BINS // 2] == 0.5


def test_stability_view_is_the_frontier_of_its_setting(traces):
    view = view_stability(traces, 15, KINDS[1])
    holds = stability_frontier(traces.rate_gains).holds[1, 2].mean(dim=-1).exp2().tolist()
    assert [interval[0] for interval in view.frontier.values()] == pytest.approx(holds)
    assert [style.name for style in STYLES] == list(view.gains)
    assert max(curve[0][k] for curve in view.gains.values() for k in range(len(RATES))) <= 1.0
    at_zero = view_stability(traces, 0, KINDS[1])
    assert len(set(at_zero.gains.values())) == 1  # on policy all means are one method


def test_looks_of_means_differ_by_more_than_colour():
    assert len({style.marker for style in STYLES}) == len({style.linestyle for style in STYLES}) == len(STYLES)


# --- the live run ----------------------------------------------------------------------------------------------------


def test_live_run_learns_world_by_world_and_says_what_it_saw():
    live = learning_live(p=1.0, staleness=3, length=2, clip="no clip", kind=KINDS[0], worlds=2)
    gains = asyncio.run(live.run())
    assert [tuple(gain.shape) for gain in gains] == [(4, len(CURVE_STEPS))] * 2
    assert not torch.equal(gains[0], gains[1])
    for gain in gains:
        assert torch.equal(gain[2], gain[3])  # the chosen one is the arithmetic mean
        assert not torch.equal(gain[0], gain[2])
        assert (gain[:, 0].abs() < 1e-6).all()
        assert (gain[:, -1] > 0.3).all()
    assert not ink_on_the_edge(live.picture._canvas.png())
    assert live.picture.caption_text.startswith("2 new worlds, rewards token by token, T = 2, 3 steps old, no clip:")


def test_live_worlds_are_none_of_the_recorded_ones(tool):
    first = next(learn_worlds(KINDS[0], 1, 0, "no clip", 1.0, worlds=1))
    recorded = tool.learning_gains(random_world(KINDS[0], 1, 0), 0, 0).mean(dim=-2)[0, 0]
    assert not torch.allclose(first[2].float(), recorded.float(), atol=1e-3)
