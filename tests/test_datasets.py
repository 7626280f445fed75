"""Tasks from files and from reasoning_gym: what they accept, how they score, and that a resumed run draws the same."""

import importlib.metadata
import json
import os
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.lm.datasets import AUDITED, DEPEND_ON_HASH_SEED, RUN_THE_ANSWER, gym_task, load_task, question_file
from hmpo_lib.lm.tasks import SUMS, reward_correct, sample_prompts


def write(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


CLIPS = {"question": "Natalia sold 48 clips, then half as many. How many?", "answer": "48/2 = 24\n48+24 = 72\n#### 72"}
CAPITAL = {"question": "What is the capital of France?", "answer": "Paris"}


# --- a file of questions ---------------------------------------------------------------------------------------------


def test_question_file_pays_for_the_right_number_or_the_right_words(tmp_path):
    task = question_file(write(tmp_path / "questions.jsonl", CLIPS, CAPITAL))
    for completion, reward in (("24 + 48 = 72", 1.0), ("#### 72.0", 1.0), ("#### 24", 0.0), ("", 0.0)):
        assert task.reward_fn(CLIPS["question"], completion) == reward
    for completion, reward in (("The answer is paris.", 1.0), ("Paris", 1.0), ("London", 0.0)):
        assert task.reward_fn(CAPITAL["question"], completion) == reward


def test_every_question_comes_up_and_nothing_else(tmp_path):
    entries = [{"question": f"{i}+1?", "answer": str(i + 1)} for i in range(5)]
    task = question_file(write(tmp_path / "q.jsonl", *entries))
    drawn = task.sample_prompts(200, torch.Generator().manual_seed(0))
    assert set(drawn) == {entry["question"] for entry in entries}
    assert len(drawn) == 200


def test_numbers_need_no_quotes_and_are_read_exactly(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "a", "answer": 72}\r\n\n{"question": "b", "answer": 0.3}', encoding="utf-8-sig")
    task = question_file(path)
    assert task.reward_fn("a", "72") == 1
    assert task.reward_fn("b", "0.3") == 1
    assert task.reward_fn("b", "0.30000000000000001") == 0


def test_a_question_that_stands_twice_is_kept_once_and_with_two_answers_refused(tmp_path):
    task = question_file(write(tmp_path / "q.jsonl", CAPITAL, CLIPS, CAPITAL))
    drawn = task.sample_prompts(2000, torch.Generator().manual_seed(0))
    assert 0.45 < drawn.count(CAPITAL["question"]) / 2000 < 0.55
    with pytest.raises(ValueError, match=r"line 2: the prompt .* has the answer 'Lyon' here and 'Paris' before"):
        question_file(write(tmp_path / "q.jsonl", CAPITAL, CAPITAL | {"answer": "Lyon"}))


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b"3",
        b"null",
        b'{"question": "a"}',
        b'{"question": "a", "answer": ""}',
        b'{"question": "a", "answer": "#### "}',
        b'{"question": "a", "answer": "#### $."}',  # an empty completion would say as much
        b'{"question": ["a"], "answer": "b"}',
        b'{"question": "a", "answer": true}',
        b'{"question": "a", "answer": "b"',
        b'{"question": "\xff", "answer": "b"}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(CLIPS).encode() + b"\n\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"q\.jsonl, line 3: .*expected a JSON object such as"):
        question_file(path)


def test_a_file_without_questions_and_a_file_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no question"):
        question_file(write(tmp_path / "q.jsonl"))
    with pytest.raises(FileNotFoundError):
        question_file(tmp_path / "nowhere.jsonl")


def test_a_prompt_of_another_file_is_refused(tmp_path):
    task = question_file(write(tmp_path / "q.jsonl", CLIPS))
    with pytest.raises(ValueError, match=r"is none of .*q\.jsonl: expected one that its task sampled"):
        task.reward_fn(CAPITAL["question"], "Paris")


def test_a_prompt_can_be_phrased_otherwise_but_not_so_that_answers_mix(tmp_path):
    path = write(tmp_path / "q.jsonl", CLIPS, CAPITAL)
    task = question_file(path, to_prompt="Question: {}\nAnswer:".format)
    assert task.sample_prompts(1, torch.Generator())[0].startswith("Question: ")
    with pytest.raises(ValueError, match="line 2: the prompt 'same' has the answer"):
        question_file(path, to_prompt=lambda question: "same")


# --- reasoning_gym ---------------------------------------------------------------------------------------------------


def test_gym_problems_are_scored_by_their_own_dataset():
    task = gym_task("chain_sum", min_terms=3, max_terms=3, max_digits=1)
    for prompt in task.sample_prompts(20, torch.Generator().manual_seed(0)):
        expression = prompt.partition(": ")[2].removesuffix(" =")
        terms = expression.replace("- ", "-").replace("+ ", "").split()
        right = sum(map(int, terms))
        assert task.reward_fn(prompt, f" {right}\n") == 1
        assert task.reward_fn(prompt, f"{right + 1}") < 0.1
        assert task.reward_fn(prompt, "(((") == 0


def test_the_prompts_are_a_function_of_the_generator_alone_and_a_fresh_task_scores_what_another_drew():
    generator = torch.Generator().manual_seed(0)
    first = gym_task("leg_counting", size=50)
    first.sample_prompts(7, generator)
    position = generator.get_state()  # a checkpoint
    prompts = first.sample_prompts(7, generator)

    resumed = gym_task("leg_counting", size=50)
    generator.set_state(position)
    assert resumed.sample_prompts(7, generator) == prompts
    unseen = gym_task("leg_counting", size=50)
    for prompt in prompts:
        for completion in ("4", "100", "nothing"):
            assert unseen.reward_fn(prompt, completion) == first.reward_fn(prompt, completion)


def test_pools_of_two_seeds_hold_different_problems_of_the_sequence():
    def pool(seed):
        task = gym_task("chain_sum", seed=seed, size=20, min_terms=6, min_digits=4)
        return set(task.sample_prompts(500, torch.Generator().manual_seed(0)))

    assert len(pool(0)) == 20
    assert not pool(0) & pool(1)  # reasoning_gym's own seeds 0 and 1 share all but one


def test_problems_from_pythons_global_generator_are_repeated_and_it_is_left_alone():
    before = random.getstate()
    first, second = (gym_task("list_functions").sample_prompts(30, torch.Generator().manual_seed(0)) for _ in range(2))
    assert first == second
    assert random.getstate() == before


def test_an_answer_that_the_scorer_cannot_read_earns_nothing():
    task = gym_task("prime_factorization")
    (prompt,) = task.sample_prompts(1, torch.Generator().manual_seed(0))
    for completion in ("((", "1e400", "9" * 5000):
        assert task.reward_fn(prompt, completion) == 0


def test_the_forms_of_prompt_and_answer_can_be_chosen_but_not_so_that_questions_mix():
    task = gym_task(
        "chain_sum",
        to_prompt=lambda question: question.partition(": ")[2].replace(" ", ""),
        to_answer=lambda completion: completion.rpartition(")")[2],
    )
    (prompt,) = task.sample_prompts(1, torch.Generator().manual_seed(0))
    assert set(prompt) <= set("0123456789+-=")
    assert max(task.reward_fn(prompt, f"(of course){n}") for n in range(-50_000, 50_000)) == 1
    from reasoning_gym.utils import extract_answer

    tagged = gym_task("chain_sum", min_terms=1, max_terms=1, to_answer=extract_answer)
    (prompt,) = tagged.sample_prompts(1, torch.Generator().manual_seed(0))
    (number,) = re.findall(r"\d+", prompt)
    assert tagged.reward_fn(prompt, f"Well, 0. <answer>{number}</answer>") == 1
    assert tagged.reward_fn(prompt, number) == 0  # no tags, no answer
    with pytest.raises(ValueError, match="to_prompt made 'same' of two questions"):
        gym_task("chain_sum", to_prompt=lambda question: "same").sample_prompts(2, torch.Generator().manual_seed(0))


def test_an_unknown_dataset_is_refused_with_those_that_are_close():
    with pytest.raises(ValueError, match=r"unknown dataset 'chain_sums': expected .* as chain_sum, decimal_chain_"):
        gym_task("chain_sums")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"terms": 3}, "chain_sum refuses {'terms': 3}: .*unexpected keyword"),
        ({"min_terms": 5, "max_terms": 2}, "max_terms must be >= min_terms"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_the_dataset_does_not_take_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        gym_task("chain_sum", **settings)


def test_without_reasoning_gym_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs reasoning_gym.*: pip install "hmpo-lib\[gym\]"'):
        gym_task("chain_sum")


@pytest.mark.parametrize("version", ["0.1.24", "0.1.26", "1.0"])
def test_a_version_of_reasoning_gym_whose_scorers_were_not_looked_at_is_refused(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(ValueError, match=rf"reasoning_gym is {version}: expected {AUDITED}, of whose scorers"):
        gym_task("chain_sum")


@pytest.mark.parametrize("name", sorted(RUN_THE_ANSWER))
def test_a_dataset_whose_scorer_runs_the_answer_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is refused: its scorer would run what the model writes"):
        gym_task(name)


# Executed code that comes from text is seen by Python's audit hook, whatever the way to it.
AUDIT = """
import sys, warnings
warnings.simplefilter("ignore")
from hmpo_lib.lm.datasets import gym_task
gym_task("chain_sum")  # imports reasoning_gym
from reasoning_gym.factory import DATASETS, create_dataset
MARK = "7351"
sources = []
def hook(event, details):
    if event == "compile" and details[0] is not None and MARK in str(details[0]): sources.append(str(details[0]))
    if event == "exec" and details[0].co_filename.startswith("<") and sources: ran.add(name)
sys.addaudithook(hook)
ran = set()
LEFT_OUT = {"composite", "futoshiki", "knight_swap", "sokoban", "arc_agi", "zebra_puzzles"}  # slow, or need pycosat
for name in sorted(set(DATASETS) - LEFT_OUT):
    dataset = create_dataset(name, seed=0, size=3)
    entry = dataset[0]
    for answer in (MARK, f"['{MARK}']", f"[[{MARK}]]", f"{MARK}*x", f"'{MARK}'"):
        sources.clear()
        try: dataset.score_answer(answer, entry)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError): pass
    sources.clear()
print()
print(*sorted(ran))
"""


def test_no_other_scorer_runs_the_answer_as_code():
    run = subprocess.run([sys.executable, "-c", AUDIT], capture_output=True, text=True, check=True)
    assert set(run.stdout.splitlines()[-1].split()) == RUN_THE_ANSWER - {"composite"}


POOL = """
import sys, torch
from hmpo_lib.lm.datasets import AUDITED, DEPEND_ON_HASH_SEED, gym_task
for name in sorted(DEPEND_ON_HASH_SEED - {"knight_swap"}):  # half a second a problem
    print(gym_task(name, size=20).sample_prompts(10, torch.Generator().manual_seed(0)))
"""


def test_problems_that_depend_on_the_hash_seed_are_the_same_in_two_processes_with_it_fixed():
    def run():
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        return subprocess.run([sys.executable, "-c", POOL], env=environment, capture_output=True, text=True, check=True)

    assert run().stdout == run().stdout != ""


@pytest.mark.parametrize("name", sorted(DEPEND_ON_HASH_SEED))
def test_problems_that_depend_on_the_hash_seed_are_refused_where_it_is_random(name, monkeypatch):
    monkeypatch.setattr(sys, "flags", SimpleNamespace(hash_randomization=1))
    with pytest.raises(ValueError, match="expected Python to be started with PYTHONHASHSEED=0"):
        gym_task(name)


# --- any of them -----------------------------------------------------------------------------------------------------


def test_a_task_is_loaded_by_the_name_that_a_command_line_gives(tmp_path):
    assert load_task("sums") is SUMS == (sample_prompts, reward_correct)
    path = write(tmp_path / "q.jsonl", CAPITAL)
    assert load_task(str(path)).sample_prompts(1, torch.Generator()) == [CAPITAL["question"]]
    assert "arithmetic problem" in load_task("gym:chain_sum").sample_prompts(1, torch.Generator())[0]
    with pytest.raises(ValueError, match=r"unknown task 'sum': expected sums, gym:NAME or the path of a \.jsonl"):
        load_task("sum")


def test_fine_tune_takes_a_task_as_its_keywords(tmp_path):
    task = question_file(write(tmp_path / "q.jsonl", *({"question": f"{i}+2+3=", "answer": i + 5} for i in range(9))))
    model, tokenizer = load_base_model()
    config = FineTuneConfig(rollouts=1, prompts=8, group_size=4)
    record = next(fine_tune(model, tokenizer, config, **task._asdict()))
    asked = [prompt for prompt in record.prompts for _ in range(4)]
    sums = [reward_correct(*pair) for pair in zip(asked, record.texts, strict=True)]
    assert record.rewards.tolist() == sums
    assert 0 < sum(sums) < 32
