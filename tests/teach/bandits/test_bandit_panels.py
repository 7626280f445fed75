"""The worlds, traces and panels of notebook 05, against sums written out in numpy, scipy and the provenance."""

import asyncio
import hashlib
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
from hmpo_lib.teach.bandits.bandit_recording import (
    CLIPS,
    CURVE_STEPS,
    EXPONENTS,
    LENGTHS,
    RATE_METHODS,
    RATE_STALENESS,
    RATES,
    RECORDED,
    STALENESS,
    STEP_RATE,
    best_rates,
    bias_of,
    collapsed,
    cosine_of,
    load_bandit_traces,
    mean_intervals,
    stability_frontier,
)
from hmpo_lib.teach.bandits.direction_panel import PLACES, STYLES, direction_caption, direction_explorer, view_direction
from hmpo_lib.teach.bandits.flip_panel import flip_caption, flip_explorer, view_flip
from hmpo_lib.teach.bandits.learning_live import learn_worlds, learning_live
from hmpo_lib.teach.bandits.rates_panel import AFTER, BEST, rates_caption, rates_explorer, view_rates
from hmpo_lib.teach.bandits.worlds_experiment import (
    KINDS,
    log_ratio_spread,
    random_world,
    signed_gradients,
    take_steps,
)

from ...scripts import load_script
from ...sweeps import ink_on_the_edge

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def traces():
    return load_bandit_traces()


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/record_bandits.py")


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
def test_change_of_the_spread_is_that_of_one_step_of_learning_rate_1(p, turned):
    bandit, new, old = small_case()
    view = view_flip(bandit, new, old, ("abcb", "acba"), p, turned)
    assert view.p_bad == (-p if turned else p)
    good, bad = expected_gradients(bandit.rewards, new, old, lambda advantage: p if advantage > 0 else view.p_bad)
    before = log_ratio_spread(bandit, new, old)
    for part, change in zip((good, bad, good + bad), view.changes.values(), strict=True):
        moved = new + 4 * torch.from_numpy(part).unsqueeze(1)
        assert (log_ratio_spread(bandit, moved, old) / before - 1).item() == pytest.approx(change, abs=1e-9)


def test_spread_is_the_root_of_the_expected_variance_within_a_sequence():
    bandit, new, old = small_case()
    by_hand = sum(chance * np.log(r).var() for chance, _, r, _, _ in by_loops(bandit.rewards, new, old, 1.0))
    assert log_ratio_spread(bandit, new, old).item() == pytest.approx(math.sqrt(by_hand))


@pytest.mark.parametrize("p", [-1.0, 1.0])
def test_arrows_are_the_pushes_of_the_written_out_sums(p):
    bandit, new, old = small_case()
    view = view_flip(bandit, new, old, ("abcb", "acba"), p, False)
    rows = [*itertools.product("abc", repeat=4)]
    found = list(by_loops(bandit.rewards, new, old, p))
    for shown in (view.good, view.bad):
        _, advantage, ratios, pushes, _ = found[rows.index(tuple(shown.tokens))]
        np.testing.assert_allclose(np.exp(shown.log_ratios), ratios)
        np.testing.assert_allclose(shown.pushes, 4 * pushes / abs(advantage))


def test_spread_grows_with_p_for_good_sequences_and_falls_with_p_for_bad_ones():
    bandit, new, old = small_case()
    views = [view_flip(bandit, new, old, ("abcb", "acba"), p, False) for p in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    assert (np.diff([view.changes["A > 0"] for view in views]) > 0).all()
    assert (np.diff([view.changes["A < 0"] for view in views]) < 0).all()


def test_caption_of_the_flip_names_the_token_that_each_sign_pushes_hardest():
    bandit, new, old = small_case()
    caption = flip_caption(view_flip(bandit, new, old, ("abcb", "acba"), -1.0, False))
    assert caption.startswith(
        "harmonic (HMPO), p = −1: in abcb the hardest push goes to “c” at place 3, in acba to “c”"
    )
    turned = flip_caption(view_flip(bandit, new, old, ("abcb", "acba"), -1.0, True))
    assert turned.startswith("p = −1 and 1: in abcb the hardest push goes to “c” at place 3, in acba to “a” at place 1")
    assert "to all tokens alike" in flip_caption(view_flip(bandit, new, old, ("abcb", "acba"), 0.0, False))


def test_examples_of_the_wrong_sign_are_refused():
    bandit, new, old = small_case()
    with pytest.raises(ValueError, match="expected a sequence with A > 0 and then one with A < 0"):
        view_flip(bandit, new, old, ("acba", "abcb"), -1.0, False)


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
    rates = (len(KINDS), len(RATE_STALENESS), len(RATES), len(RATE_METHODS))
    assert traces.gradients.shape == (*settings, len(CLIPS), len(EXPONENTS) + 1, 3, 20)
    assert traces.product_gradients.shape == (*settings, 3, 20)
    assert traces.curves.shape == (*rates, len(CURVE_STEPS), 16)
    assert traces.final_gains.shape == (*rates, 16)
    assert traces.choice_gains.shape == (*rates, 10)
    for table in traces:
        assert table.isfinite().all()
    assert (traces.curves[..., 0, :].abs() < 1e-3).all()
    assert traces.curves.max() <= 1.001
    assert traces.final_gains.max() <= 1.001


def test_on_policy_and_with_one_choice_all_means_are_the_same_in_the_traces(traces):
    unclipped = traces.gradients[:, :, :, 0]
    assert (bias_of(unclipped)[:, :, 0] < 1e-3).all()  # on policy no bias
    assert (bias_of(unclipped)[:, 0] < 1e-3).all()  # nor with one choice
    for same in (unclipped[:, :, 0, :, 2], unclipped[:, 0, :, :, 2]):
        assert (same - same[..., :1, :]).abs().max() < 0.01
    assert (bias_of(traces.product_gradients) < 2e-3).all()
    assert (bias_of(unclipped[0, :, :, EXPONENTS.index(1.0)]) < 1e-3).all()  # the exact one, token by token
    assert (traces.curves[:, 0] == traces.curves[:, 0, :, :1]).all()


@pytest.mark.parametrize(("kind", "length", "staleness", "world"), [(0, 2, 3, 5), (1, 2, 15, 0), (1, 4, 7, 19)])
def test_recorded_gradients_are_those_of_the_written_out_sums(traces, kind, length, staleness, world):
    bandit, old = random_world(KINDS[kind], length, world)
    new = take_steps(bandit, old, staleness, learning_rate=STEP_RATE)
    place = (kind, LENGTHS.index(length), STALENESS.index(staleness))
    true = gradient_statistics(bandit, new, old, None).true[:, 0].numpy()
    cases = {k: p for k, p in enumerate(EXPONENTS) if p != 0} | {len(EXPONENTS): lambda advantage: -np.sign(advantage)}
    for method, p in cases.items():
        gradients, chances = [], []
        for chance, _, _, pushes, scores in by_loops(bandit.rewards, new, old, p):
            gradients.append(length * pushes[:, None] * scores)
            chances.append(chance)
        mean = np.average(gradients, axis=0, weights=chances)
        variance = np.average((np.array(gradients) - mean) ** 2, axis=0, weights=chances).sum()
        along = (mean * true).sum() / (true**2).sum()
        recorded = traces.gradients[(*place, 0, method)][:, world : world + 1]
        expected = np.array([along, math.sqrt(variance / 64) / np.linalg.norm(true)])
        np.testing.assert_allclose(recorded[[0, 2], 0], expected, rtol=2e-3, atol=1e-3)
        bias = np.linalg.norm(mean - true) / np.linalg.norm(true)
        assert bias_of(recorded).item() == pytest.approx(bias, rel=3e-3, abs=1e-3)
        cosine = (mean * true).sum() / np.linalg.norm(mean) / np.linalg.norm(true)
        assert cosine_of(recorded).item() == pytest.approx(cosine, abs=2e-3)


def test_recorded_curve_can_be_learned_again(traces, tool):
    gains = tool.curves(random_world(KINDS[0], 4, 2), 15, range(200, 208))[..., list(CURVE_STEPS)].mean(dim=-2)
    # Another machine's sums differ in their last digits, and in a sampled token sooner or later.
    torch.testing.assert_close(gains[:4].double(), traces.curves[0, 1, :4, ..., 2], atol=0.05, rtol=0)


def test_tool_puts_the_worlds_last_and_the_kinds_first(tool, monkeypatch):
    small = {"LENGTHS": (1, 2), "STALENESS": (0, 1), "CURVE_STEPS": (0, 4), "RATES": (1.0,), "RATE_STALENESS": (0, 1)}
    small |= {"GRADIENT_WORLDS": range(3), "RATE_WORLDS": range(2), "CHOICE_WORLDS": range(3, 4), "RATE_LENGTH": 2}
    for name, value in small.items():
        monkeypatch.setattr(tool, name, value)
    tables = tool.collect([[tool.record_kind(kind, seed) for seed in range(4)] for kind in KINDS])
    assert {name: tuple(table.shape) for name, table in tables.items()} == {
        "gradients": (2, 2, 2, 2, len(EXPONENTS) + 1, 3, 3),
        "product_gradients": (2, 2, 2, 3, 3),
        "curves": (2, 2, 1, 4, 2, 2),
        "final_gains": (2, 2, 1, 4, 2),
        "choice_gains": (2, 2, 1, 4, 1),
    }


def test_traces_can_be_another_file_and_a_missing_one_is_said(traces, tmp_path):
    path = tmp_path / "own.safetensors"
    save_file({name: table.half() for name, table in traces._asdict().items()}, path)
    torch.testing.assert_close(load_bandit_traces(str(path)).gradients, traces.gradients)
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


def test_what_is_slow_at_a_small_rate_has_not_collapsed():
    table = torch.zeros(1, 1, len(RATES), 4, 1)
    table[0, 0, :, 0, 0] = torch.tensor([0.2, 0.9, 1.0, 0.8, 0.4, 0.9, 0.1, 0.1, 0.1, 0.1])
    table[0, 0, :, 3, 0] = torch.tensor([0.1] * 9 + [0.6])
    gone = collapsed(table)[0, 0, :, :, 0]
    assert gone[:, 0].tolist() == [False] * 4 + [True, False] + [True] * 4
    assert not gone[:, 3].any()


def test_best_rate_is_the_best_on_average_over_the_worlds_for_choosing():
    table = torch.zeros(1, 1, len(RATES), 4, 2)
    table[0, 0, 3, 1] = torch.tensor([0.9, 0.1])
    table[0, 0, 5, 1] = torch.tensor([0.6, 0.6])
    assert best_rates(table)[0, 0, 1] == 5


# --- the panels ------------------------------------------------------------------------------------------------------


def test_direction_panel_shows_every_position(traces, sweep):
    shown = sweep(direction_explorer(traces))
    assert all("nan" not in view.alt for view in shown)


def test_rates_panel_shows_every_position(traces, sweep):
    shown = sweep(rates_explorer(traces))
    assert len(shown) == len(RATE_STALENESS) * len(KINDS) * len(AFTER) * (len(RATES) + 1)
    assert all("nan" not in view.alt for view in shown)


def test_direction_view_takes_each_number_from_its_place_in_the_traces(traces):
    view = view_direction(traces, 1.0, 7, 4, "no clip", "as a whole")
    here = traces.gradients[1, 2, 3, 0]
    assert [tip[0] for tip in view.tips] == pytest.approx(here[:, 0].mean(-1).tolist())
    assert view.of(view.biases)[0] == pytest.approx(bias_of(here)[EXPONENTS.index(1.0)].mean().item())
    assert view.of(view.errors)[1] < view.of(view.errors)[0] < view.of(view.errors)[2]
    assert [EXPONENTS[place] for place in PLACES[:-1]] == [style.p for style in STYLES[:-1]]
    assert f"bias {view.of(view.biases)[0]:.2f} (" in direction_caption(view)


def test_rates_view_is_each_mean_at_its_best_rate(traces):
    view = view_rates(traces, KINDS[0], 15, BEST, 16)
    chosen = best_rates(traces.choice_gains)[0, 1].tolist()
    for k, style in enumerate(STYLES):
        assert view.best[style.name] == RATES[chosen[k]]
        assert view.reached(style.name)[0] == pytest.approx(
            traces.curves[0, 1, chosen[k], k, CURVE_STEPS.index(16)].mean().item()
        )
    assert f"harmonic {100 * view.reached('harmonic')[0]:.0f} %" in rates_caption(view)
    on_policy = view_rates(traces, KINDS[1], 0, 4.0, 64)
    assert len(set(on_policy.curves.values())) == 1  # all means are one method


def test_looks_of_means_differ_by_more_than_colour():
    assert len({style.marker for style in STYLES}) == len({style.linestyle for style in STYLES}) == len(STYLES)


# --- the live run ----------------------------------------------------------------------------------------------------


def test_live_run_learns_world_by_world_and_says_what_it_saw(traces):
    live = learning_live(traces, kind=KINDS[0], staleness=15, rate=8.0, after=16, worlds=2)
    gains = asyncio.run(live.run())
    assert [tuple(gain.shape) for gain in gains] == [(4, len(CURVE_STEPS))] * 2
    assert not torch.equal(gains[0], gains[1])
    for gain in gains:
        assert not torch.equal(gain[0], gain[2])
        assert (gain[:, 0].abs() < 1e-6).all()
        assert (gain[:, -1] > 0.3).all()
    assert not ink_on_the_edge(live.picture._canvas.png())
    assert live.picture.caption_text.startswith(
        "2 new worlds, rewards token by token, 15 steps old at most, rate 8. After 16"
    )


def test_live_worlds_are_none_of_the_recorded_ones(traces):
    rates = {style.name: 1.0 for style in STYLES}
    first = next(learn_worlds(rates, KINDS[0], 0, worlds=1))
    recorded = traces.curves[0, 0, 0, 0]  # rate 1; points, worlds
    assert ((first[0].unsqueeze(1) - recorded).abs().amax(dim=0) > 1e-2).all()
