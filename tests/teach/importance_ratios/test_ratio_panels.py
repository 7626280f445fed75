"""The panels of notebook 03 and the recorded ratios, against numpy, scipy and the file's own provenance."""

import functools
import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from scipy.special import softmax

from hmpo_lib.teach import load_recorded_ratios
from hmpo_lib.teach.how_many_are_heard import weights_explorer
from hmpo_lib.teach.how_many_are_heard.weights_panel import view_weights
from hmpo_lib.teach.importance_ratios import (
    answer_explorer,
    divergence_explorer,
    four_ratios_explorer,
    length_explorer,
    recorded_explorer,
)
from hmpo_lib.teach.importance_ratios.answer_panel import view_answer
from hmpo_lib.teach.importance_ratios.divergence_panel import (
    CLIP,
    NEW,
    OLD,
    SHIFTS,
    STOPS,
    expected_mean,
    view_divergence,
)
from hmpo_lib.teach.importance_ratios.four_ratios_panel import parse_probabilities, view_four_ratios
from hmpo_lib.teach.importance_ratios.length_panel import view_length
from hmpo_lib.teach.importance_ratios.recorded_panel import DISTANCES, view_recorded
from hmpo_lib.teach.shared.ratio_styles import RATIO_STYLES, number
from hmpo_lib.teach.shared.recorded_ratios import END, RECORDED, STAGES
from hmpo_lib.teach.shared.simulated_ratios import COMPLETIONS, LENGTHS, simulate

from ...scripts import load_script

ROOT = Path(__file__).resolve().parents[3]
PROBABILITIES = ("0.5", "1, 1, 1, 1, 1, 1, 1, 1, 1, 1", "1e-9 0.5; 1e-300,1", "0.9, 0.5, 0.6, 0.8, 0.3")


@pytest.fixture(scope="module")
def recorded():
    return load_recorded_ratios()


# --- the four ratios -------------------------------------------------------------------------------------------------


def test_four_ratios_are_scipys_means_and_the_product():
    view = view_four_ratios("0.9, 0.5, 0.6, 0.8", "0.95 0.6 0.9 0.2")
    ratios = np.array([0.95, 0.6, 0.9, 0.2]) / np.array([0.9, 0.5, 0.6, 0.8])
    assert view.tokens == pytest.approx(ratios)
    assert view.ratios == pytest.approx(
        {
            "product": ratios.prod(),
            "arithmetic": ratios.mean(),
            "geometric": stats.gmean(ratios),
            "harmonic": stats.hmean(ratios),
        }
    )


@pytest.mark.parametrize("text", PROBABILITIES)
def test_four_ratios_panel_draws_any_probabilities_within_the_picture(text, sweep):
    count = len(parse_probabilities(text, "old"))
    other = ", ".join(["0.3"] * count)
    panel = four_ratios_explorer(text, other)
    shown = sweep(panel, {"old": [text, other], "new": [other, text]})
    assert len({view.caption for view in shown}) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5, x", "no list of numbers; write, for example, 0.5, 0.8, 0.4"),
        ("", "0 probabilities; give 1 to 10"),
        (", ".join(["0.5"] * 11), "11 probabilities; give 1 to 10"),
        ("0.5, 0", "new: 0 is no probability"),
        ("0.5, 1.2", "new: 1.2 is no probability"),
        ("nan, 0.5", "new: nan is no probability"),
        ("0.5", "2 old probabilities and 1 new ones; give as many of each"),
    ],
)
def test_what_is_no_list_of_probabilities_is_said_in_the_status_line_and_the_picture_stays(text, said):
    panel = four_ratios_explorer("0.5, 0.5", "0.4, 0.6")
    before = panel.picture.image.value
    panel.controls["new"].value = text
    assert said in panel.status.text
    assert panel.picture.image.value == before
    panel.controls["new"].value = "0.4, 0.7"
    assert panel.status.text == ""


def test_text_fields_wait_for_the_end_of_the_input():
    assert not any(control.continuous_update for control in four_ratios_explorer().controls.values())


def test_kinds_of_ratio_differ_by_more_than_colour():
    assert len({style.marker for style in RATIO_STYLES.values()}) == len(RATIO_STYLES)
    assert len({style.linestyle for style in RATIO_STYLES.values()}) == len(RATIO_STYLES)
    assert len({style.colour for style in RATIO_STYLES.values()}) == len(RATIO_STYLES)


def test_numbers_have_three_digits_however_large_or_small():
    assert [number(x) for x in (52.4849, 1.8e-7, 1.0, 3.21e12)] == ["52.5", "1.8e-7", "1", "3.21e12"]


# --- simulated completions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [length_explorer, lambda: length_explorer(ratio=1.0, spread=0.1), weights_explorer])
def test_panels_of_simulated_completions_show_every_position(make, sweep):
    sweep(make())


def test_only_a_panel_with_a_spread_has_its_control_and_its_plot():
    alike, spread = length_explorer(), length_explorer(spread=0.1)
    assert "spread" not in alike.controls
    assert [len(panel.picture._canvas.figure.axes) for panel in (alike, spread)] == [1, 2]


def test_two_hundred_tokens_at_1_02_make_52():
    view = view_length(1.02, 0.0, 200)
    assert view.at_length("product") == pytest.approx([1.02**200] * 3)
    assert view.at_length("geometric") == pytest.approx([1.02] * 3)


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_spread_of_log_product_grows_like_the_root_of_the_length_and_that_of_the_geometric_mean_shrinks(spread):
    view = view_length(0.97, spread, 200)
    roots = np.sqrt(LENGTHS)
    # The standard deviation of 1000 draws is within 4 of its own standard errors, 1 / sqrt(2 · 1000).
    np.testing.assert_allclose(view.widths["product"], spread * roots, rtol=4 / math.sqrt(2 * COMPLETIONS))
    np.testing.assert_allclose(view.widths["geometric"], spread / roots, rtol=4 / math.sqrt(2 * COMPLETIONS))
    # A wrong law, growth in proportion to the length, is far outside of that.
    assert not np.allclose(view.widths["product"], spread * np.array(LENGTHS), rtol=0.5)


def test_effective_sample_sizes_are_those_of_the_normalized_weights():
    view = view_weights(0.2, 100)
    for kind, logs in simulate(1.0, 0.2).items():
        weights = softmax(logs[:, LENGTHS.index(100)].numpy())
        assert view.size(kind) == pytest.approx(1 / (weights**2).sum())
        assert view.heaviest[kind][0] == pytest.approx(weights.max())


def test_effective_sample_size_of_products_follows_the_lognormal_law_while_many_are_heard():
    view = view_weights(0.1, 10)
    for length, size in zip(LENGTHS, view.sizes["product"], strict=True):
        if length * 0.1**2 <= 0.5:
            assert size == pytest.approx(math.exp(-length * 0.1**2), rel=0.1)
    assert min(view.sizes["geometric"]) > 0.98


# --- recorded ratios -------------------------------------------------------------------------------------------------


def test_recorded_panel_shows_every_position(recorded, sweep):
    shown = sweep(recorded_explorer(recorded))
    assert len(shown) == len(recorded.staleness) * len(DISTANCES)
    assert all("nan" not in view.alt + view.caption for view in shown)


def test_checksum_and_command_of_the_recording_are_those_in_the_readme():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(RECORDED.read_bytes()).hexdigest() in readme
    assert "python tools/record_ratios.py" in readme
    assert RECORDED.stat().st_size < 800_000


def test_recording_is_whole(recorded):
    assert recorded.staleness.tolist() == [0, 1, 2, 4, 8, 16]
    assert int(recorded.lengths.sum()) == len(recorded.log_ratios)
    assert recorded.log_ratios.isfinite().all()
    for stage in STAGES:
        sample = recorded.at(stage, 0)
        assert np.bincount(sample.seeds).tolist() == [256] * 4
        assert (sample.lengths > 0).all()
        # Just sampled, old is new: what remains is float32's rounding of log-probabilities.
        assert sample.log_ratios.abs().max() < 1e-4
        assert recorded.at(stage, 1).log_ratios.abs().max() > 0.1


def test_recorded_advantages_are_the_group_advantages_of_the_recorded_rewards(recorded):
    for stage in STAGES:
        sample = recorded.at(stage, 4)
        groups = sample.rewards.view(-1, 8).numpy()
        spread = groups.std(axis=1, ddof=1, keepdims=True)
        expected = np.divide(groups - groups.mean(axis=1, keepdims=True), spread, where=spread > 0, out=groups * 0)
        np.testing.assert_allclose(sample.advantages.view(-1, 8).numpy(), expected, atol=1e-6)


def test_padding_is_no_token(recorded):
    sample = recorded.at("after 40 rollouts", 4)
    assert (sample.log_ratios[~sample.completion_mask] == 0).all()
    assert len(sample.tokens) == int(sample.lengths.sum())
    part = sample.of_length(25, 32)
    assert 25 <= part.lengths.min() <= part.lengths.max() <= 32


def test_shares_of_the_view_are_numpys(recorded):
    view = view_recorded(recorded, 4, "5 %")
    for stage, shares in view.shares.items():
        sample = recorded.at(stage, 4)
        products = np.array([row[mask].sum() for row, mask in zip(*map(np.asarray, sample[:2]), strict=True)])
        assert shares["product"] == pytest.approx((np.abs(products) >= 0.05).mean())
        assert shares["token"] == pytest.approx((np.abs(sample.tokens.numpy()) >= 0.05).mean())


def test_fewer_ratios_lie_further_from_one(recorded):
    for stage in STAGES:
        shares = [view_recorded(recorded, 16, distance).shares[stage] for distance in DISTANCES]
        for name in RATIO_STYLES:
            of_name = [share[name] for share in shares]
            assert of_name == sorted(of_name, reverse=True)
            assert of_name[0] > of_name[-1]


def test_answers_are_read_as_they_were_written(recorded):
    for stage in STAGES:
        sample = recorded.at(stage, 0)
        for row in range(0, 1024, 37):
            prompt, tokens = sample.prompt(row), sample.token_texts(row)
            numbers = [int(number) for number in prompt.removesuffix("=").split("+")]
            assert 3 <= len(numbers) <= 5
            assert len(tokens) == sample.lengths[row]
            assert (tokens[-1] == END) or len(tokens) == 40
            if sample.rewards[row]:
                assert re.findall(r"\d+", "".join(tokens))[-1] == str(sum(numbers))
        probabilities = sample.old_logprobs[sample.completion_mask].exp()
        assert ((probabilities > 0) & (probabilities <= 1 + 1e-3)).all()
        assert (sample.old_logprobs[~sample.completion_mask] == 0).all()


def test_answer_panel_shows_every_staleness_and_scipys_means(recorded, sweep):
    assert len(sweep(answer_explorer(recorded, STAGES[1], 8))) == 6
    view = view_answer(recorded, STAGES[1], 8, 16)
    ratios = np.exp(view.log_ratios)
    assert len(view.tokens) == len(ratios)
    assert view.ratios["harmonic"] == pytest.approx(stats.hmean(ratios))
    assert view.ratios["product"] == pytest.approx(ratios.prod())


@pytest.mark.parametrize(("stage", "staleness"), [("in the middle", 4), (STAGES[0], 3)])
def test_what_was_not_recorded_is_refused_with_what_was(recorded, stage, staleness):
    with pytest.raises(ValueError, match=r"expected one of start of training, after 40 rollouts, and one of 0, 1, 2"):
        recorded.at(stage, staleness)


def test_missing_recording_is_said_with_where_to_find_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="data/results/ has it"):
        load_recorded_ratios(tmp_path / "none.safetensors")


def test_tool_records_answers_that_start_at_ratio_one_and_move_with_the_steps(monkeypatch):
    tool = load_script("tools/record_ratios.py")
    small = functools.partial(tool.FineTuneConfig, prompts=8)
    for name, value in {"FineTuneConfig": small, "STAGES": (0, 1), "STALENESS": (0, 1, 3)}.items():
        monkeypatch.setattr(tool, name, value)
    early, late = tool.record_run(0)
    for stage, part in enumerate((early, late)):
        assert len(part["lengths"]) == 64
        assert part["log_ratios"].shape == (part["lengths"].sum(), 3)
        just_sampled, one_step, three_steps = part["log_ratios"].float().abs().amax(dim=0)
        assert just_sampled < 1e-4 < one_step
        assert three_steps > 1e-4
        assert (part["stages"] == stage).all()
    again, _ = tool.record_run(0)
    assert all(torch.equal(early[name], again[name]) for name in early)
    other, _ = tool.record_run(1)
    assert not torch.equal(early["log_ratios"], other["log_ratios"])


def test_recording_can_be_another_file(recorded, tmp_path):
    path = tmp_path / "own.safetensors"
    save_file(recorded._asdict(), path)
    torch.testing.assert_close(load_recorded_ratios(str(path)).log_ratios, recorded.log_ratios)


# --- divergences -----------------------------------------------------------------------------------------------------


def test_divergence_panel_shows_every_position(sweep):
    sweep(divergence_explorer())


@pytest.mark.parametrize(
    ("p", "value"),  # checked with mpmath
    [(-2, 0.9325048082403138), (-1, 0.9523809523809524), (0, 0.9750493889620165), (0.5, 0.9872881705020867), (1, 1.0)],
)
def test_expected_means_are_the_reference_values(p, value):
    assert expected_mean(p) == pytest.approx(value, rel=1e-12)


def test_curve_rises_and_passes_one_at_the_arithmetic_mean():
    curve = [expected_mean(p) for p in STOPS]
    assert curve == sorted(curve)
    assert [p for p, mean in zip(STOPS, curve, strict=True) if mean < 1 - 1e-12] == [p for p in STOPS if p < 1]


@pytest.mark.parametrize("p", [-3.0, -1.0, 0.0, 1.0, 2.5])
def test_mean_of_sampled_ratios_is_near_the_expected_one(p):
    rng = np.random.default_rng(0)
    means = stats.pmean(rng.choice(np.array(NEW) / OLD, size=(200, 10_000), p=OLD), p, axis=1)
    assert expected_mean(p) == pytest.approx(means.mean(), abs=5 * means.std() / 200**0.5 + 1e-4)


def test_far_from_old_the_harmonic_mean_leaves_a_window_around_1_and_the_arithmetic_does_not():
    assert view_divergence(-1.0, 0.0).expected == pytest.approx(1)
    assert view_divergence(-1.0, 2.0).expected < CLIP[0]
    assert all(view_divergence(1.0, shift).expected == pytest.approx(1) for shift in SHIFTS)
