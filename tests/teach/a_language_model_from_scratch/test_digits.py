"""What models can do at each kind of digit, against plain loops, another way of switching off, and provenance."""

import copy
import hashlib
from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy import stats

from hmpo_lib.lm import load_base_model, make_tokenizer
from hmpo_lib.lm.model import make_model
from hmpo_lib.lm.tasks import sample_questions
from hmpo_lib.teach.a_language_model_from_scratch.digits_experiment import (
    KINDS,
    MODES,
    SUBSETS,
    digit_scores,
    guesses,
    held_out_texts,
    mean_outputs,
    switched_off,
    worked_texts,
)
from hmpo_lib.teach.a_language_model_from_scratch.digits_panel import digits_explorer, view_digits
from hmpo_lib.teach.a_language_model_from_scratch.digits_recording import (
    LOOKS,
    RACE_TEXTS,
    RACE_TEXTS_SEED,
    RECORDED,
    TEXTS,
    TEXTS_SEED,
    load_digit_traces,
)
from hmpo_lib.teach.a_language_model_from_scratch.heads_panel import BY, heads_explorer, view_heads
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import RECORDS, race
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import OPTIMIZERS, SEEDS, load_race_traces
from hmpo_lib.teach.a_language_model_from_scratch.worked_places import worked_places

from ...scripts import load_script

ROOT = Path(__file__).resolve().parents[3]
COPIES, ENDS, SUMS = range(3)


@pytest.fixture(scope="module")
def base():
    return load_base_model()[0]


@pytest.fixture(scope="module")
def questions():
    return sample_questions(12, torch.Generator().manual_seed(4), held_out=True)


@pytest.fixture(scope="module")
def traces():
    return load_digit_traces()


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/record_digits.py")


# --- the experiment --------------------------------------------------------------------------------------------------


def test_scores_are_those_of_each_text_by_itself(base, questions):
    scores, tokenizer = digit_scores(base, worked_texts(questions)), make_tokenizer()
    for row, question in enumerate(questions):
        text = "▷" + question.prompt + question.worked_answer
        ids = tokenizer(text[1:], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logprobs = base(input_ids=ids).logits[0].log_softmax(dim=-1)
        places = worked_places(question)
        for kind, which in ((COPIES, places.copies), (ENDS, places.marks), (SUMS, places.right_units)):
            nats = [-logprobs[i, ids[0, i + 1]].item() for i, _ in which]
            right = [tokenizer.decode(logprobs[i].argmax()) == text[i + 1] for i, _ in which]
            assert scores.losses[kind, row].item() == pytest.approx(sum(nats) / len(nats), rel=1e-3, abs=1e-5)
            assert scores.right[kind, row].item() == pytest.approx(sum(right) / len(right))


def test_a_guess_is_the_entropy_and_the_commonest_token(questions):
    losses, right = guesses(worked_texts(questions))
    texts = ["▷" + question.prompt + question.worked_answer for question in questions]
    counts = Counter(
        text[i + 1]
        for text, question in zip(texts, questions, strict=True)
        for i, _ in worked_places(question).left_units
    )
    assert losses[SUMS] == pytest.approx(stats.entropy(list(counts.values())))
    assert right[SUMS] == pytest.approx(max(counts.values()) / counts.total())


@pytest.mark.parametrize(("layer", "heads"), [(2, (2,)), (2, (2, 4)), (1, (1, 3))])
def test_switched_off_by_zero_is_a_model_whose_columns_are_zero(base, questions, layer, heads):
    texts, cut = worked_texts(questions), copy.deepcopy(base)
    with torch.no_grad():
        for head in heads:
            cut.model.layers[layer - 1].self_attn.o_proj.weight[:, 32 * (head - 1) : 32 * head] = 0
    with switched_off(base, layer, heads, torch.zeros(128)):
        torch.testing.assert_close(digit_scores(base, texts), digit_scores(cut, texts))
    assert not torch.equal(digit_scores(base, texts).losses, digit_scores(cut, texts).losses)


def test_mean_of_all_heads_makes_every_place_get_the_same_from_a_layer(base, questions):
    texts, given, attended = worked_texts(questions), [], []
    projection = base.model.layers[1].self_attn.o_proj
    handle = projection.register_forward_hook(lambda _, inputs, output: given.append((inputs[0], output)))
    digit_scores(base, texts)
    mean = mean_outputs(base, texts, layer=2)
    with switched_off(base, 2, (1, 2, 3, 4), mean):
        digit_scores(base, texts)
    handle.remove()
    (attended, _), (_, constant) = given[0], given[-1]
    torch.testing.assert_close(mean, attended[texts.attention_mask.bool()].mean(dim=0))
    torch.testing.assert_close(constant, (projection.weight @ mean).detach().expand_as(constant))


def test_a_model_is_whole_again_after_the_block(base, questions):
    texts = worked_texts(questions)
    before = digit_scores(base, texts)
    with switched_off(base, 2, (2,), torch.zeros(128)):
        pass
    torch.testing.assert_close(digit_scores(base, texts), before, rtol=0, atol=0)


# --- the recording ---------------------------------------------------------------------------------------------------


def test_recording_is_the_one_whose_provenance_is_given():
    digest = hashlib.sha256(RECORDED.read_bytes()).hexdigest()
    assert digest in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


def test_recording_is_whole_and_of_its_shape(traces):
    assert traces.losses.shape == traces.right.shape == (len(OPTIMIZERS), len(SEEDS), RECORDS, len(KINDS))
    shape = (2, len(MODES), len(SUBSETS), len(KINDS))
    assert traces.off_losses.shape == traces.off_right.shape == traces.off_half_widths.shape == shape
    assert traces.looks.shape == (2, 4, len(LOOKS))
    for table in traces:
        assert table.isfinite().all()
    whole = traces.off_right[..., SUBSETS.index(()), :]
    assert (whole == whole[:1, :1]).all()  # with no head switched off all is as it was


def test_beginning_of_a_recorded_run_can_be_made_again(traces):
    model = make_model(3)
    next(race(load_race_traces().chosen["Muon"], seed=3, model=model))
    scores = digit_scores(model, held_out_texts(RACE_TEXTS, RACE_TEXTS_SEED))
    torch.testing.assert_close(scores.losses.mean(dim=-1).double(), traces.losses[0, 3, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("layer", "heads"), [(2, (2, 4)), (1, (1, 2, 3, 4))])
def test_recorded_heads_of_the_shipped_model_can_be_switched_off_again(base, traces, layer, heads):
    texts = held_out_texts(TEXTS, TEXTS_SEED)
    with switched_off(base, layer, heads, torch.zeros(128)):
        right = digit_scores(base, texts).right.double()
    recorded = traces.off_right[layer - 1, MODES.index("zero"), SUBSETS.index(heads)]
    torch.testing.assert_close(right.mean(dim=-1), recorded, rtol=0, atol=2e-3)
    low, high = stats.t.interval(0.95, TEXTS - 1, loc=right[SUMS].mean(), scale=stats.sem(right[SUMS].numpy()))
    half_width = traces.off_half_widths[layer - 1, MODES.index("zero"), SUBSETS.index(heads), SUMS]
    assert half_width.item() == pytest.approx((high - low) / 2, rel=0.05)


def test_tool_keeps_finished_work(tool, tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": torch.ones(2)}

    for _ in range(2):
        assert torch.equal(tool.kept(tmp_path / "run.safetensors", make)["x"], torch.ones(2))
    assert made == [1]


# --- the panels ------------------------------------------------------------------------------------------------------


def test_digits_panel_follows_its_controls(traces, sweep):
    assert len(sweep(digits_explorer(traces))) == len(SEEDS)


def test_digits_words_give_the_recorded_ends(traces):
    view = view_digits(traces, 2)
    assert f"copied digits {traces.right[0, 2, -1, COPIES]:.2f} with Muon" in view.caption


def test_heads_panel_follows_its_controls(traces, sweep):
    sweep(heads_explorer(traces))


def test_heads_words_give_the_recorded_shares(traces):
    view = view_heads(traces, 2, (2, 4), "by its own mean")
    shares = traces.off_right[1, MODES.index(BY["by its own mean"]), SUBSETS.index((2, 4))]
    assert view.caption.startswith("The shipped model, without heads 2, 4 of layer 2, replaced by its own mean.")
    assert f"last digits of sums {100 * shares[SUMS]:.1f} %" in view.caption
