"""The console script: what it writes, and what it says to input that cannot work."""

import csv
import dataclasses
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hmpo_lib import cli
from hmpo_lib.lm import FineTuneConfig, load_base_model, load_model

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


def test_a_tokenizer_whose_pad_is_its_eos_gives_one_line(tmp_path):
    model, tokenizer = load_base_model()
    tokenizer.pad_token = tokenizer.eos_token
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "run"
    result = hmpo("fine-tune", "--method", "grpo", "--out", out, "--model", tmp_path / "model")
    assert "expected a pad of its own" in one_line_error(result, out)


@pytest.mark.parametrize("command", [["fine-tune", "--method", "grpo"], ["pretrain"]])
def test_a_folder_that_holds_something_is_not_overwritten(tmp_path, command):
    (tmp_path / "precious.txt").write_text("results")
    result = hmpo(*command, "--out", tmp_path)
    assert "exists and is not an empty folder" in one_line_error(result, tmp_path / "metrics.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_the_defaults_of_the_command_are_those_of_the_configuration():
    options = {option.name: option.default for option in cli.fine_tune_command.params}
    for field in dataclasses.fields(FineTuneConfig):
        if field.name in options and field.name != "method":
            assert options[field.name] == field.default, field.name


@pytest.mark.parametrize("command", [[], ["fine-tune"], ["pretrain"]])
def test_help_is_there_and_names_its_options(command):
    result = CliRunner().invoke(cli.cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
