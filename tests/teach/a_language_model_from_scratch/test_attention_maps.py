"""The attention maps of notebook 06 and the places that heads are asked about, against the text itself."""

import pytest
import torch

from hmpo_lib.lm import make_tokenizer
from hmpo_lib.lm.tasks import Question, sample_questions
from hmpo_lib.teach.a_language_model_from_scratch.attention_panel import AttentionMap, attention_explorer, characters
from hmpo_lib.teach.a_language_model_from_scratch.block_drawing import NEXT, TOKENS, the_model
from hmpo_lib.teach.a_language_model_from_scratch.worked_places import mean_weights, worked_places

WORKED = "18+3+9+14=(18+3=21,21+9=30,30+14=44)44"


def test_characters_are_those_of_the_text():
    tokenizer = make_tokenizer()
    ids = tokenizer(WORKED + "<eos>", return_tensors="pt")["input_ids"][0]
    assert "".join(characters(ids, tokenizer)) == f"▷{WORKED}◁"


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


# --- the panel -------------------------------------------------------------------------------------------------------


def test_panel_follows_its_controls(sweep):
    maps = {
        text: (tuple(text), (9 * torch.randn(2, 4, len(text), len(text))).softmax(dim=-1).tril())
        for text in (f"▷{WORKED}◁", "▷7+12+5=24◁")
    }
    assert len(sweep(attention_explorer(maps))) == 8 * 2


def test_words_name_the_strongest_looks_and_say_where_there_are_none():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.9, 0.0], [0.2, 0.75, 0.05]])
    view = AttentionMap(("▷", "7", "+"), weights, 2, 3)
    said = "Layer 2, head 3. Strongest looks at an earlier character: “+” (character 2) at “7” (1) 0.75."
    assert view.caption == said  # not that of 7 at itself, nor those at bos
    assert view.alt.endswith(said)
    even = AttentionMap(("▷", "7"), torch.tensor([[1.0, 0.0], [0.5, 0.5]]), 1, 1)
    assert even.caption.endswith("none of 0.5 or more.")


def test_the_picture_of_the_model_predicts_each_next_token():
    assert TOKENS[1:] == NEXT[:-1]
    assert "data:image/png" in the_model().static_bundle()["text/html"]
