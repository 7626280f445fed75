"""The sums task: its texts, its split, its reward."""

import pytest
import torch

from hmpo_lib.lm.tasks import (
    CHARACTERS,
    MAX_COMPLETION_LENGTH,
    Question,
    final_number,
    is_worked,
    reward_correct,
    sample_prompts,
    sample_questions,
)


def test_a_worked_answer_shows_every_addition():
    question = Question((7, 12, 5))
    assert question.prompt == "7+12+5="
    assert question.direct_answer == "24"
    assert question.worked_answer == "(7+12=19,19+5=24)24"


def test_the_longest_worked_answer_fits_the_limit_with_its_eos():
    assert len(Question((19,) * 5).worked_answer) + 1 == MAX_COMPLETION_LENGTH


def test_every_text_is_made_of_the_tokenizers_characters():
    for question in sample_questions(200, torch.Generator().manual_seed(0)):
        assert set(question.prompt + question.worked_answer) <= set(CHARACTERS)


def test_training_and_held_out_sums_never_meet_in_any_order_of_their_terms():
    generator = torch.Generator().manual_seed(0)
    training = {tuple(sorted(q.terms)) for q in sample_questions(3000, generator)}
    held_out = {tuple(sorted(q.terms)) for q in sample_questions(3000, generator, held_out=True)}
    assert not training & held_out
    assert Question((7, 12, 5)).held_out == Question((12, 5, 7)).held_out
    everything = [Question((a, b, c)).held_out for a in range(20) for b in range(20) for c in range(20)]
    assert 0.08 < sum(everything) / len(everything) < 0.12


def test_the_same_generator_gives_the_same_prompts():
    assert sample_prompts(5, torch.Generator().manual_seed(3)) == sample_prompts(5, torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("completion", "reward", "worked"),
    [
        ("24", 1, False),
        ("(7+12=19,19+5=24)24", 1, True),
        ("(nonsense)24", 1, True),  # nothing pays for the work itself
        ("25", 0, False),
        ("024", 1, False),
        ("", 0, False),
        ("24)", 0, False),
        ("(7+12=19", 0, False),
        ("(1)(2)24", 0, False),
        ("7+12+5", 0, False),
        ("-24", 0, False),
        ("2 4", 0, False),
        ("__import__('os')", 0, False),
    ],
)
def test_the_reward_parses_the_final_number_and_nothing_else(completion, reward, worked):
    assert reward_correct("7+12+5=", completion) == reward
    assert is_worked(completion) == worked
    assert (final_number(completion) is None) == (reward == 0 and completion != "25")


def test_a_prompt_that_is_no_sum_is_refused():
    with pytest.raises(ValueError, match="is not a sum"):
        reward_correct("7*2=", "14")


def test_a_number_longer_than_python_reads_is_no_answer():
    assert final_number("1" * 5000) is None
    assert reward_correct("7+12+5=", "1" * 5000) == 0
