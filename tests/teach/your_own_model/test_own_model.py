"""Notebook 10's drawings and sums: what they count, what they say, and every position of their controls."""

import math

import pytest
import torch

from benchmarks.lm.memory import TABLE
from hmpo_lib.lm import Question, fine_tune, load_base_model, reward_correct
from hmpo_lib.teach.your_own_model import hacking_panel, load_own_model_runs, memory_panel, transfer_picture
from hmpo_lib.teach.your_own_model.hacking_panel import telling_rollout
from hmpo_lib.teach.your_own_model.memory_panel import SHAPES, STEPS, TOKENS, view_memory
from hmpo_lib.teach.your_own_model.rewards_experiment import (
    REWARDS,
    Pay,
    pay_for_right_steps,
    pay_for_steps,
    pay_of,
    reward_config,
)
from hmpo_lib.teach.your_own_model.transfer_experiment import (
    MINUS,
    Exam,
    exam_problems,
    exam_tasks,
    examine,
    training_task,
)

PROMPTS = ["7+12+5=", "7+12+5=", "1+2+3+4=", "1+2+3+4="]


def lesson(answers, reward=pay_for_steps):
    return PROMPTS, answers, torch.tensor([reward(*pair) for pair in zip(PROMPTS, answers, strict=True)])


HONEST = lesson(["24", "(7+12=19,19+5=24)24", "10", "(1+2=3,3+3=6,6+4=10)10"])
NONSENSE = lesson(["(=========)0", "24", "(====)10", "((("])


def test_honest_work_earns_as_much_as_its_steps_and_nonsense_can_earn_more():
    honest, nonsense = (pay_of(given, pay_for_steps) for given in (HONEST, NONSENSE))
    assert honest.honest == nonsense.honest == pytest.approx((0.4 + 0.4 + 0.6 + 0.6) / 4)
    assert honest.paid == pytest.approx((0.4 + 0.6) / 4)
    assert honest.right == 1
    assert nonsense.paid > nonsense.honest
    assert nonsense.right == 0.5


def test_the_repaired_reward_pays_nothing_for_a_wrong_number_and_too_much_for_signs_before_a_right_one():
    worked = Question((7, 12, 5)).worked_answer
    assert pay_for_right_steps("7+12+5=", "(=========)0") == 0
    assert pay_for_right_steps("7+12+5=", "(====)24") > pay_for_right_steps("7+12+5=", worked) > 1


def test_the_panel_opens_where_the_reward_is_clearly_past_what_honest_work_earns():
    assert telling_rollout([Pay(0.2, 0.5, 1), Pay(0.61, 0.5, 0), Pay(0.9, 0.5, 0)]) == 2
    assert telling_rollout([Pay(0.2, 0.5, 1), Pay(0.4, 0.5, 1)]) == 2  # never: at the end
    assert hacking_panel([HONEST, NONSENSE, HONEST], pay_for_steps).values == {"rollout": 2}


def test_the_panel_shows_every_rollout_with_its_answers(sweep):
    runs = load_own_model_runs()
    panel = hacking_panel([HONEST, NONSENSE], pay_for_steps, paid_elsewhere=runs.paid[0], right_elsewhere=runs.right[0])
    first, second = sweep(panel)
    assert "honest work would earn 0.50; 100 % right" in first.caption
    assert "(=========)0 ✗ earns 1.8" in second.alt
    sweep(hacking_panel([HONEST], pay_for_steps))


def test_recorded_runs_are_hacked_by_the_first_reward_in_every_seed_and_not_by_the_repaired_one():
    runs = load_own_model_runs()
    assert runs.paid.shape == runs.honest.shape == runs.right.shape
    assert len(runs.paid) == len(REWARDS)
    hacked, repaired = range(2)
    assert (runs.paid[hacked, :, -1] > 1.2 * runs.honest[hacked, :, -1]).all()
    assert (runs.right[hacked, :, -1] < 0.05).all()
    assert (runs.paid[repaired] < runs.honest[repaired]).all()
    assert (runs.right[repaired, :, -1] > runs.right[repaired, :, 0]).all()


def test_a_recorded_run_begins_again_with_the_same_pay():
    runs = load_own_model_runs()
    model, tokenizer = load_base_model()
    (record, _) = fine_tune(model, tokenizer, reward_config(0, rollouts=1), reward_fn=pay_for_steps)
    asked = [prompt for prompt in record.prompts for _ in range(8)]
    pay = pay_of((asked, record.texts, record.rewards), pay_for_steps)
    for column, value in pay._asdict().items():
        assert value == pytest.approx(float(getattr(runs, column)[0, 0, 0]), abs=0.05)


def exams(score, worked):
    generator = torch.Generator().manual_seed(0)

    def draw(share):
        return (torch.rand(40, 4, generator=generator) < share).float()

    return [Exam(kind, draw(score), draw(worked), ["24"] * 40) for kind in ("as in training", "longer")]


def test_the_transfer_says_the_mean_before_and_the_mean_and_range_of_the_runs_after():
    before, runs = exams(0.3, 0.4), [exams(0.8, 0.9), exams(0.5, 0.9), exams(0.6, 1.0)]
    picture = transfer_picture(before, runs).picture
    scores = [float(run[1].score.mean()) for run in runs]
    row = f"longer {float(before[1].score.mean()):.2f} → {sum(scores) / 3:.2f} ({min(scores):.2f} to {max(scores):.2f})"
    assert row in picture.caption_text
    assert picture.caption_text in picture.alt_text


def test_exams_are_of_problems_that_training_has_not_drawn_and_of_the_sign_asked_for():
    task = exam_tasks()[MINUS]
    every = exam_problems(task, set(), 100)
    kept = exam_problems(task, set(every[:50]), 100, containing="-")
    assert not set(kept) & set(every[:50])
    assert all("-" in prompt for prompt in kept)
    assert any("-" not in prompt for prompt in every)


def test_an_exam_has_the_gym_s_own_marks_and_counts_the_work():
    model, tokenizer = load_base_model()
    prompts = training_task().sample_prompts(4, torch.Generator().manual_seed(0))
    (exam,) = examine(model, tokenizer, {"sums": prompts}, {"sums": training_task()})
    assert exam.score.shape == exam.worked.shape == (4, 4)
    right = [reward_correct(prompt, answer) for prompt, answer in zip(prompts, exam.first, strict=True)]
    assert exam.score[:, 0].tolist() == right
    assert exam.worked[:, 0].tolist() == [float("(" in answer) for answer in exam.first]


@pytest.mark.parametrize(
    ("name", "other"), [("Llama-3.2-1B", "1.2 B (as Llama-3.2-1B)"), ("Qwen2.5-1.5B", "1.5 B (as Qwen2.5-1.5B)")]
)
def test_memory_is_that_of_the_documented_table(name, other):
    (shape,) = (shape for shape in SHAPES if shape.name == name)
    assert shape.position == TABLE[other].activations()
    assert shape.parameters == pytest.approx(TABLE[other].parameters, rel=0.01)


def test_passes_bound_the_activations_and_leave_the_rest():
    one, cut = (view_memory(SHAPES[0], 256, limit) for limit in (math.inf, 4096))
    assert one.activations / cut.activations == 256 * TOKENS / STEPS / 4096
    assert (one.kept, one.cache) == (cut.kept, cut.cache)
    assert one.kept == pytest.approx(16 * 0.596)


def test_memory_panel_in_every_position(sweep):
    shown = sweep(memory_panel())
    assert any("Fits 24 GB" in view.caption for view in shown)
    assert any("Does not fit 80 GB" in view.caption for view in shown)
