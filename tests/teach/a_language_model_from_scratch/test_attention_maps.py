"""The attention maps of notebook 06, against transformers' own attention, the text itself and a switched-off head."""

import copy

import pytest
import torch
from torch.nn import functional as F

from hmpo_lib.lm import load_base_model
from hmpo_lib.lm.tasks import Question, sample_questions
from hmpo_lib.teach.a_language_model_from_scratch.attention_panel import (
    AttentionMap,
    attention_alt,
    attention_caption,
    attention_explorer,
    attention_weights,
    mean_weights,
    worked_places,
)

TEXTS = {"direct": "7+12+5=24<eos>", "worked": "18+3+9+14=(18+3=21,21+9=30,30+14=44)44<eos>"}


@pytest.fixture(scope="module")
def base():
    return load_base_model()


@pytest.fixture(scope="module")
def eager(base):
    model = copy.deepcopy(base[0])
    model.set_attn_implementation("eager")
    return model


@pytest.fixture(scope="module")
def maps(base, eager):
    return {name: attention_weights(eager, base[1], text) for name, text in TEXTS.items()}


def test_weights_are_a_distribution_over_the_characters_so_far(maps):
    for characters, weights in maps.values():
        assert weights.shape == (2, 4, len(characters), len(characters))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        assert (weights.triu(1) == 0).all()


def test_weights_times_values_are_what_sdpa_gives_the_rest_of_the_layer(base, eager):
    model, tokenizer = base
    seen = {}

    def keep(module, inputs):
        seen["mixed"] = inputs[0]

    def keep_values(module, inputs, output):
        seen["values"] = output

    attention = model.model.layers[0].self_attn  # with torch's scaled_dot_product_attention
    handles = [attention.o_proj.register_forward_pre_hook(keep), attention.v_proj.register_forward_hook(keep_values)]
    with torch.no_grad():
        model(**tokenizer(TEXTS["worked"], return_tensors="pt"))
    for handle in handles:
        handle.remove()
    _, weights = attention_weights(eager, tokenizer, TEXTS["worked"])
    values = seen["values"][0].unflatten(-1, (4, -1)).transpose(0, 1)
    torch.testing.assert_close((weights[0] @ values).transpose(0, 1).flatten(1), seen["mixed"][0])


def test_characters_are_those_of_the_text(maps):
    characters, _ = maps["worked"]
    assert "".join(characters) == "▷" + TEXTS["worked"].removesuffix("<eos>") + "◁"


@pytest.mark.parametrize("question", sample_questions(20, torch.Generator().manual_seed(3)), ids=lambda q: q.prompt)
def test_places_point_at_what_they_say(question):
    text = "▷" + question.prompt + question.worked_answer
    places = worked_places(question)
    for i, (j,) in places.copies:
        assert j <= i
        assert text[i + 1] == text[j]
    for i, (j,) in places.marks:
        assert text[j] in "(+,"
        assert text[j + 1 : i + 1].isdigit()
        assert not text[i + 1].isdigit()
    assert len(places.left_units) == len(places.right_units) == len(question.terms) - 1
    for (i, left), (same, right) in zip(places.left_units, places.right_units, strict=True):
        assert i == same
        assert len({text[j] for j in left}) == len({text[j] for j in right}) == 1
        assert (int(text[left[0]]) + int(text[right[0]])) % 10 == int(text[i + 1])


def test_every_digit_of_the_work_is_either_copied_or_belongs_to_a_sum():
    question = Question((18, 3, 9))
    text = "▷" + question.prompt + question.worked_answer  # 18+3+9=(18+3=21,21+9=30)30
    work = {i for i in range(text.index("("), len(text)) if text[i].isdigit()}
    sums = {i for i in work if text[: i + 1].rstrip("0123456789").endswith("=")}
    assert {i + 1 for i, _ in worked_places(question).copies} == work - sums


def test_mean_weights_are_means_over_all_places():
    first, second = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4)
    first[0, 0, 2, 1], second[0, 0, 3, 0], second[0, 0, 3, 2], second[0, 1, 1, 0] = 0.5, 0.1, 0.2, 1.0
    found = mean_weights([first, second], [[(2, (1,))], [(3, (0, 2)), (1, (0,))]])
    torch.testing.assert_close(found, torch.tensor([[(0.5 + 0.3 + 0) / 3, (0 + 0 + 1) / 3]]))


def copied_loss(model, tokenizer, questions):
    """Nats at the copied characters."""
    losses = []
    for question in questions:
        ids = tokenizer(question.prompt + question.worked_answer, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            nats = F.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
        losses += [nats[i].item() for i, _ in worked_places(question).copies]
    return sum(losses) / len(losses)


def test_head_that_looks_at_what_is_copied_is_needed_for_copying_and_a_head_that_does_not_is_not(base, eager):
    model, tokenizer = base
    questions = sample_questions(20, torch.Generator().manual_seed(4), held_out=True)
    weights = [attention_weights(eager, tokenizer, q.prompt + q.worked_answer)[1] for q in questions]
    looks = mean_weights(weights, [worked_places(q).copies for q in questions])
    assert looks.argmax() == 5  # layer 2, head 2
    assert looks[1, 0] < 0.2
    without = {}
    for head in (0, 1):
        cut = copy.deepcopy(model)
        with torch.no_grad():
            cut.model.layers[1].self_attn.o_proj.weight[:, 32 * head : 32 * (head + 1)] = 0
        without[head] = copied_loss(cut, tokenizer, questions)
    assert without[1] > 1.0
    assert without[0] < 0.05


# --- the panel -------------------------------------------------------------------------------------------------------


def test_panel_follows_its_controls(maps, sweep):
    assert len(sweep(attention_explorer(maps))) == 8 * len(TEXTS)


def test_words_name_the_strongest_looks_and_say_where_there_are_none():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.9, 0.0], [0.2, 0.75, 0.05]])
    view = AttentionMap(("▷", "7", "+"), weights, 2, 3)
    said = "Layer 2, head 3. Strongest looks at an earlier character: “+” (character 2) at “7” (1) 0.75."
    assert attention_caption(view) == said  # not that of 7 at itself, nor those at bos
    assert said in attention_alt(view)
    even = AttentionMap(("▷", "7"), torch.tensor([[1.0, 0.0], [0.5, 0.5]]), 1, 1)
    assert attention_caption(even).endswith("none of 0.5 or more.")
