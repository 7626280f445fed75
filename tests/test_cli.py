"""The console script: what it writes, and what it says to input that cannot work."""

import csv
import dataclasses
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from hmpo_lib import cli
from hmpo_lib.lm import FineTuneConfig, load_base_model, load_model
from hmpo_lib.lm.run_folder import RunFolder

TINY = ["--rollouts", "2", "--prompts", "2", "--group-size", "4", "--minibatches", "2", "--max-new-tokens", "12"]
COLUMNS = {
    "rollout", "seconds", "reward_mean", "completion_length_mean", "ratio_mean", "clip_fraction_low",
    "clip_fraction_high", "zero_variance_fraction", "truncated_fraction", "gradient_norm",
}  # fmt: skip


def hmpo(*arguments):
    code = "from hmpo_lib.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_fine_tune_writes_a_row_a_rollout_and_a_model_that_loads(tmp_path):
    out = tmp_path / "run"
    result = hmpo("fine-tune", "--method", "hmpo", "--out", out, *TINY)
    assert result.returncode == 0, result.stderr
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rollout"] for row in rows] == ["0", "1"]
    assert set(rows[0]) >= COLUMNS
    assert all(0 <= float(row["reward_mean"]) <= 1 for row in rows)
    load_model(out / "model")
    again = hmpo("fine-tune", "--method", "gspo", "--out", tmp_path / "next", "--model", out / "model", *TINY)
    assert again.returncode == 0, again.stderr


def columns(folder):
    """The rows of metrics.csv without the column of seconds."""
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a checkpoint each rollout."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = hmpo("fine-tune", "--method", "hmpo", "--out", folder, "--checkpoint-every", "1", *TINY)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def crashed(finished, tmp_path):
    """The same, as if it had crashed in the second rollout, while a row was being written."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "checkpoints" / "000002")
    rows = (folder / "metrics.csv").read_bytes()
    (folder / "metrics.csv").write_bytes(rows[: len(rows) - 20])
    return folder


@pytest.mark.parametrize("place", [".", "checkpoints/000001"])
def test_resume_goes_on_as_if_nothing_had_happened(finished, crashed, place):
    result = hmpo("resume", crashed / place)
    assert result.returncode == 0, result.stderr
    assert "Going on behind rollout 1 of 2" in result.stderr
    assert columns(crashed) == columns(finished)
    for file in ("model/model.safetensors", "checkpoints/000002/training.safetensors"):
        assert (crashed / file).read_bytes() == (finished / file).read_bytes()


def test_a_run_without_a_checkpoint_begins_anew(finished, crashed):
    shutil.rmtree(crashed / "checkpoints")
    result = hmpo("resume", crashed)
    assert result.returncode == 0, result.stderr
    assert columns(crashed) == columns(finished)


def test_a_finished_run_says_so_and_stays_as_it_is(finished):
    before = (finished / "metrics.csv").read_bytes()
    result = hmpo("resume", finished)
    assert (result.returncode, result.stderr) == (0, "")
    assert "is finished: its model is in" in result.stdout
    assert (finished / "metrics.csv").read_bytes() == before


def test_resume_takes_no_option_that_could_contradict_the_run():
    assert [parameter.name for parameter in cli.resume_command.params] == ["run"]


def test_a_damaged_checkpoint_is_one_line_that_names_it_and_the_one_that_loads(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "model")
    weights = folder / "checkpoints" / "000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    message = one_line_error(hmpo("resume", folder), folder / "model")
    assert f"{weights} is not as it was written" in message
    assert f"The last good checkpoint is {folder / 'checkpoints' / '000001'}." in message
    assert hmpo("resume", folder / "checkpoints" / "000001").returncode == 0
    assert columns(folder) == columns(finished)


def test_lost_rows_are_an_error_and_not_a_hole_in_the_table(crashed):
    (crashed / "metrics.csv").write_text("")
    message = one_line_error(hmpo("resume", crashed), crashed / "model")
    assert "metrics.csv has 0 rows: expected at least the 1 before the checkpoint" in message


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"method": "hmpo"}', "half a fi"])
def test_settings_that_are_not_those_of_a_run_are_one_line_that_names_the_file(crashed, content):
    (crashed / "config.json").write_text(content)
    message = one_line_error(hmpo("resume", crashed), crashed / "model")
    assert f"{crashed / 'config.json'} " in message
    assert "restore it, or start the run anew" in message


def test_a_row_that_cannot_be_read_is_measured_again(finished, crashed):
    with (crashed / "metrics.csv").open("ab") as file:
        file.write(b"\xff\xfe torn")
    result = hmpo("resume", crashed)
    assert result.returncode == 0, result.stderr
    assert columns(crashed) == columns(finished)


def test_a_task_in_words_is_refused_for_the_shipped_model_in_one_line(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "What is 2+2?", "answer": "4"}', encoding="utf-8")
    result = hmpo("fine-tune", "--method", "hmpo", "--task", path, "--out", tmp_path / "run")
    message = one_line_error(result, tmp_path / "run")
    assert "the shipped model cannot read the prompt 'What is 2+2?', with ' ' in it" in message


def test_a_resumed_run_goes_on_with_the_questions_that_it_began_with(tmp_path):
    questions, one, other = tmp_path / "questions.jsonl", tmp_path / "one", tmp_path / "other"
    lines = [f'{{"question": "{a}+{b}=", "answer": "{a + b}"}}\n' for a in range(2, 9) for b in range(2, 9)]
    questions.write_text("".join(lines), encoding="utf-8")
    result = hmpo("fine-tune", "--method", "hmpo", "--task", questions, "--out", one, "--checkpoint-every", "1", *TINY)
    assert result.returncode == 0, result.stderr
    shutil.copytree(one, other)
    shutil.rmtree(other / "model")
    shutil.rmtree(other / "checkpoints" / "000002")
    questions.write_text('{"question": "1+1=", "answer": "3"}', encoding="utf-8")
    result = hmpo("resume", other)
    assert result.returncode == 0, result.stderr
    assert columns(other) == columns(one)
    assert (other / "questions.jsonl").read_text(encoding="utf-8") == "".join(lines)


def test_a_run_that_is_in_use_is_left_alone(crashed):
    before = {file: file.read_bytes() for file in crashed.rglob("*") if file.is_file()}
    running = RunFolder(crashed)
    running.lock()
    message = one_line_error(hmpo("resume", crashed), crashed / "model")
    assert f"{crashed} is in use by a run that is not over" in message
    assert {file: file.read_bytes() for file in crashed.rglob("*") if file.is_file()} == before
    del running
    assert hmpo("resume", crashed).returncode == 0


def test_where_no_run_is_resume_says_what_it_expects(tmp_path):
    result = hmpo("resume", tmp_path / "nothing")
    assert "expected a config.json there" in one_line_error(result, tmp_path / "nothing")


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, finished):
    folder = tmp_path / "run"
    # What a shell starts in the background has inherited that it ignores the interrupt; a user's command has not.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; from hmpo_lib.cli import main; main()"
    sizes = [*TINY, "--rollouts", 500, "--checkpoint-every", 1]
    arguments = ["fine-tune", "--method", "hmpo", "--out", folder, *sizes]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Not one name alone: two checkpoints are kept, and a quick run has soon removed the first ones.
    while process.poll() is None and not any(path.name >= "000002" for path in folder.glob("checkpoints/0*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == f"Stopped. To go on: hmpo resume {folder}"
    assert "Traceback" not in errors
    assert len(columns(folder)) >= 2


@pytest.mark.parametrize("missing", ["--method", "--out"])
def test_method_and_out_are_asked_for(missing, tmp_path):
    given = {"--method": "hmpo", "--out": str(tmp_path / "run")}
    del given[missing]
    result = CliRunner().invoke(cli.cli, ["fine-tune", *next(iter(given.items()))])
    assert result.exit_code == 2
    assert f"Missing option '{missing}'." in result.output


def test_pretrain_makes_a_model_that_loads(tmp_path):
    result = hmpo("pretrain", "--out", tmp_path / "base", "--steps", 2)
    assert result.returncode == 0, result.stderr
    load_model(tmp_path / "base")


def one_line_error(result, out):
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "ppo"], "unknown method 'ppo': expected one of grpo, "),
        (["--method", "grpo", "--minibatches", "99"], "minibatches is 99 with prompts 32"),
        (["--method", "grpo", "--learning-rate", "nan"], "learning_rate is nan"),
        (["--method", "grpo", "--model", "/no/such/model"], "no model that can be read at /no/such/model"),
    ],
)
def test_input_that_cannot_work_gives_one_line_and_makes_nothing(tmp_path, arguments, message):
    out = tmp_path / "run"
    assert message in one_line_error(hmpo("fine-tune", "--out", out, *arguments), out)


@pytest.fixture
def without_pad(tmp_path):
    """A model whose tokenizer has its eos for a pad, the most common case on the hub."""
    model, tokenizer = load_base_model()
    tokenizer.pad_token = tokenizer.eos_token
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_tokenizer_whose_pad_is_its_eos_gives_one_line_that_names_a_pad_which_works(tmp_path, without_pad):
    out = tmp_path / "run"
    message = one_line_error(hmpo("fine-tune", "--method", "grpo", "--out", out, "--model", without_pad), out)
    assert "expected a pad of its own" in message
    assert "--pad-token '<pad>'." in message
    options = ["--method", "grpo", "--out", out, "--model", without_pad, "--pad-token", "<pad>", "--rollouts", 1]
    result = hmpo("fine-tune", *TINY, *options)
    assert result.returncode == 0, result.stderr
    assert load_model(out / "model")[1].pad_token == "<pad>"


def test_a_pad_token_that_the_model_does_not_know_or_that_is_its_eos_gives_one_line(tmp_path, without_pad):
    options = ["--method", "grpo", "--out", tmp_path / "run", "--model", without_pad, "--pad-token"]
    for token, said in {"<blank>": "'<blank>' is not in the vocabulary", "<eos>": "expected a pad of its own"}.items():
        assert said in one_line_error(hmpo("fine-tune", *options, token), tmp_path / "run")


def test_a_folder_that_is_named_as_the_task_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "sums").mkdir()
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(cli.cli, ["fine-tune", "--method", "hmpo", "--out", "run", *TINY], catch_exceptions=False)
    assert (tmp_path / "run" / "model").is_dir()


def test_all_rows_of_a_resumed_table_end_alike(crashed):
    assert hmpo("resume", crashed).returncode == 0
    rows = (crashed / "metrics.csv").read_bytes()
    assert rows.count(b"\n") == 3
    assert b"\r" not in rows


@pytest.mark.parametrize("command", [["fine-tune", "--method", "grpo"], ["pretrain"]])
def test_a_folder_that_holds_something_is_not_overwritten(tmp_path, command):
    (tmp_path / "precious.txt").write_text("results")
    result = hmpo(*command, "--out", tmp_path)
    assert "exists and is not an empty folder" in one_line_error(result, tmp_path / "metrics.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_the_defaults_of_the_command_are_those_of_the_configuration():
    context = cli.fine_tune_command.make_context("fine-tune", [], resilient_parsing=True)
    for field in dataclasses.fields(FineTuneConfig):
        assert field.name == "method" or context.params[field.name] == field.default, field.name


@pytest.mark.parametrize("command", [[], ["fine-tune"], ["pretrain"]])
def test_help_is_there_and_names_its_options(command):
    result = CliRunner().invoke(cli.cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
