"""The shipped model and its tokenizer: what loads them, and what must not be loaded."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hmpo_lib.lm import load_base_model, load_model
from hmpo_lib.lm import model as model_module
from hmpo_lib.lm.durable import CHECKSUM_FILE, damage
from hmpo_lib.lm.model import base_model_path, make_model, make_tokenizer, save_model
from hmpo_lib.lm.tasks import CHARACTERS

REPOSITORY = Path(__file__).parent.parent


def test_the_plain_classes_of_transformers_load_the_shipped_model():
    model, tokenizer = load_base_model()
    plain = AutoModelForCausalLM.from_pretrained(base_model_path())
    ids = AutoTokenizer.from_pretrained(base_model_path())("7+12+5=", return_tensors="pt").input_ids
    assert ids.tolist() == [tokenizer("7+12+5=").input_ids]
    torch.testing.assert_close(plain(ids).logits, model(ids).logits)
    assert not model.training


def test_the_readme_of_the_data_gives_the_checksum_of_each_file():
    stated = dict(re.findall(r"`(\w[\w.]+)` \| `([0-9a-f]{64})`", (REPOSITORY / "data/README.md").read_text()))
    listed = dict(line.split("  ")[::-1] for line in (base_model_path() / CHECKSUM_FILE).read_text().splitlines())
    assert stated == listed
    assert "model.safetensors" in stated


def test_the_tokenizer_is_one_token_a_character_and_comes_back():
    tokenizer = make_tokenizer()
    ids = tokenizer(CHARACTERS).input_ids
    assert len(ids) == len(CHARACTERS) + 1  # bos
    assert tokenizer.decode(ids, skip_special_tokens=True) == CHARACTERS
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3


def test_a_saved_model_loads_with_the_same_logits(tmp_path):
    model, tokenizer = make_model(seed=1).eval(), make_tokenizer()
    save_model(model, tokenizer, tmp_path / "model")
    assert damage(tmp_path / "model", ("model.safetensors",)) is None
    loaded, loaded_tokenizer = load_model(tmp_path / "model")
    ids = torch.tensor([loaded_tokenizer("3+4+5=").input_ids])
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


def test_making_a_model_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    make_model(seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture
def copied_base_model(tmp_path, monkeypatch):
    path = Path(shutil.copytree(base_model_path(), tmp_path / "base_model"))
    monkeypatch.setattr(model_module, "base_model_path", lambda: path)
    load_base_model()
    return path


def test_a_tampered_base_model_is_refused(copied_base_model):
    weights = copied_base_model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"model.safetensors is not as it was written \(SHA-256 \w{12}, expected"):
        load_base_model()


def test_a_missing_base_model_or_file_of_it_is_refused(copied_base_model):
    (copied_base_model / "config.json").unlink()
    with pytest.raises(ValueError, match=r"not the one that was shipped: .*config.json is missing"):
        load_base_model()
    shutil.rmtree(copied_base_model)
    with pytest.raises(FileNotFoundError, match="the base model is missing"):
        load_base_model()


def test_a_list_of_checksums_that_lists_nothing_verifies_nothing(copied_base_model):
    (copied_base_model / CHECKSUM_FILE).write_text("")
    with pytest.raises(ValueError, match=r"has no checksum of model\.safetensors"):
        load_base_model()


def test_weights_that_are_cut_short_are_refused(tmp_path):
    path = Path(shutil.copytree(base_model_path(), tmp_path / "model"))
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors is not as it was written .* if you meant to change it"):
        load_model(path)
    (path / CHECKSUM_FILE).unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
        load_model(path)


def test_weights_in_a_pickle_are_never_opened(tmp_path, monkeypatch):
    model, tokenizer = load_base_model()
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(FileNotFoundError, match="pickles are never opened"):
        load_model(tmp_path)


def test_a_pad_that_is_the_eos_is_refused(tmp_path):
    model, tokenizer = load_base_model()
    tokenizer.pad_token = tokenizer.eos_token
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="pad token is '<eos>' and its eos '<eos>': expected a pad of its own"):
        load_model(tmp_path)


def test_a_folder_without_a_model_and_a_name_that_is_nowhere_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model in"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model that can be read at"):
        load_model(str(tmp_path / "nowhere"))
