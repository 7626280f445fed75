"""The scripts of examples/ run, as far as a machine without a GPU can run them."""

import functools
import operator
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hmpo_lib import METHODS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def needs(package):
    """Skips a test where a package is not installed."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}: run `make oracles`")


def run(script, *arguments, **environment):
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.fixture(scope="module")
def tiny_chat_model(tmp_path_factory):
    """A random Qwen2 of a few thousand parameters with a tokenizer of bytes and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("chat")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<eos>"]
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate(special + alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), num_key_value_heads=1, pad_token_id=0, eos_token_id=1, bos_token_id=None, **sizes
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@needs("trl")
def test_the_sums_are_learned_through_trl(tmp_path):
    out = tmp_path / "rewards.csv"
    printed = run("trl_sums.py", "--rollouts", 2, "--out", out)
    assert printed.count("rollout") == 2
    rows = out.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "method,seed,rollout,reward_mean"
    assert [row.split(",")[:3] for row in rows[1:]] == [["hmpo", "0", "0"], ["hmpo", "0", "1"]]
    assert 0.5 < float(rows[1].split(",")[3]) < 0.7  # the base model, see docs/results.md


@needs("trl")
@pytest.mark.parametrize("lora", [False, pytest.param(True, marks=needs("peft"))])
def test_a_model_of_the_hub_learns_a_file_of_questions(tmp_path, tiny_chat_model, lora):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "1 + 2?", "answer": "1 + 2 = 3\\n#### 3"}\n' * 8, encoding="utf-8")
    out = tmp_path / "out"
    options = ["--model", tiny_chat_model, "--questions", questions, "--out", out, "--steps", 2, "--max-new-tokens", 4]
    run("one_gpu.py", *options, *(["--lora"] if lora else []))
    assert (out / ("adapter_model.safetensors" if lora else "model.safetensors")).is_file()


@needs("verl")
def test_every_setting_of_the_verl_example_is_one_of_verls():
    from omegaconf import OmegaConf

    folder = Path(find_spec("verl").origin).parent / "trainer" / "config"
    config = OmegaConf.to_container(OmegaConf.load(folder / "_generated_ppo_trainer.yaml"))
    text = (EXAMPLES / "verl_ray.sh").read_text(encoding="utf-8")
    settings = dict(re.findall(r"^    ([\w.]+)=(\S+)", text, flags=re.MULTILINE))
    assert len(settings) > 20
    for name in settings:
        *groups, setting = name.split(".")
        assert setting in functools.reduce(operator.getitem, groups, config), name
    mode = settings["actor_rollout_ref.actor.policy_loss.loss_mode"].removeprefix("power_mean_")
    assert METHODS[mode].objective.length_weight == "equal"
    assert settings["actor_rollout_ref.actor.loss_agg_mode"] == "seq-mean-token-mean"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse(path):
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


def test_the_table_names_every_example():
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"} == set(
        re.findall(r"^\| \[([\w.]+)\]", table, flags=re.MULTILINE)
    )
