"""Whatever is wrong with a file: one line that says so, or the same as without; nothing opened, nothing lost."""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from hmpo_lib import cli
from hmpo_lib.lm import durable, load_model, question_file
from hmpo_lib.lm.durable import CHECKSUM_FILE, write_checksums
from hmpo_lib.lm.model import make_tokenizer, save_model
from hmpo_lib.lm.rollouts import encode_prompts
from hmpo_lib.teach.recordings import load_recording

from .corruptions import PLACES, changed_json, cut_and_replaced

LONGEST = 900  # characters of a line
IDS = torch.tensor([[1, 3, 13, 4, 17]])


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch, tmp_path):
    """No pickle is opened and no network asked; a pickle's program would leave a folder here."""
    monkeypatch.chdir(tmp_path)
    seen = []
    hook_is_on.append(seen)
    yield
    hook_is_on.remove(seen)
    assert seen == []
    assert not (tmp_path / "a pickle was opened").exists()


hook_is_on = []


def watch(event, details):
    if hook_is_on and event in ("pickle.find_class", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        hook_is_on[-1].append((event, str(details)[:200]))


sys.addaudithook(watch)


def count(name, outcomes):
    """One line of docs/files.md, shown by ``pytest -s``."""
    print(f"| {name} | {len(outcomes)} | {dict(sorted(Counter(outcomes.values()).items()))} |")


def judge(read, same):
    """What becomes of a bad input: refused in one line, or the same as without, or something else."""
    try:
        got = read()
    except (ValueError, OSError) as error:
        said = str(error)
    else:
        return "same" if same(got) else "other"
    assert "\n" not in said, said
    assert 20 < len(said) < LONGEST, said
    assert ":" in said, said  # what it is: what was expected, or what to do
    return "refused"


def tiny_model(**changes):
    config = t.LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2, **changes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return t.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory):
    """A tiny model's folder without checksums, which would notice all; and what it gives."""
    folder = tmp_path_factory.mktemp("model")
    model = tiny_model(tie_word_embeddings=False)
    save_model(model, make_tokenizer(), folder)
    (folder / CHECKSUM_FILE).unlink()
    with torch.no_grad():
        return folder, model(IDS).logits


@torch.no_grad()
def same_model(logits):
    def same(loaded):
        model, tokenizer = loaded
        try:
            ids, _ = encode_prompts(tokenizer, ["7+12="])
        except ValueError:  # a tokenizer of other words
            return False
        expected, _ = encode_prompts(make_tokenizer(), ["7+12="])
        ends = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        return torch.equal(model(IDS).logits, logits) and torch.equal(ids, expected) and ends == (0, 2)

    return same


def model_with(whole, tmp_path, name, content):
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    content(folder / name) if callable(content) else (folder / name).write_bytes(content)
    return folder


MODEL_FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_models_file_that_is_cut_replaced_or_a_link_is_refused_or_changes_nothing(whole_model, tmp_path, name):
    whole, logits = whole_model
    tried = [*cut_and_replaced((whole / name).read_bytes()), *PLACES.items()]
    outcomes = {
        what: judge(lambda c=content: load_model(model_with(whole, tmp_path, name, c)), same_model(logits))
        for what, content in tried
    }
    count(f"model folder, {name}: cut, replaced, linked", outcomes)
    assert "other" not in outcomes.values()
    assert "same" in outcomes.values()  # at least by a link to the whole file


# A value of another type or size that is a legal setting of another model.
OTHER_MODELS = {
    "config.json": r"rms_norm_eps = .*|(attention|mlp)_bias = True|head_dim = .*|rope_parameters\..*|hidden_act.*",
    "tokenizer.json": r"without post_processor|post_processor = None|post_processor\.single = \[\]|model\.vocab.*",
}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_models_settings_of_other_types_are_refused_or_change_nothing(whole_model, tmp_path, name):
    whole, logits = whole_model
    tried = list(changed_json(json.loads((whole / name).read_bytes())))[::3]
    outcomes = {
        what: judge(lambda c=content: load_model(model_with(whole, tmp_path, name, c)), same_model(logits))
        for what, content in tried
    }
    count(f"model folder, {name}: keys and types", outcomes)
    other = [what for what, outcome in outcomes.items() if outcome == "other"]
    assert [what for what in other if not re.fullmatch(OTHER_MODELS.get(name, ""), what)] == []
    assert "same" in outcomes.values()


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("x.bin", "expected files in its folder that end in .safetensors"),
        ("../outside.safetensors", "expected files in its folder"),
        ("/etc/x.safetensors", "expected files in its folder"),
        ("a\\b.safetensors", "expected files in its folder"),
        ("nowhere.safetensors", "nowhere.safetensors is missing"),
        (3, "has no weight_map"),
    ],
)
def test_an_index_of_weights_that_leaves_the_folder_or_names_a_pickle_is_refused(whole_model, tmp_path, part, message):
    whole, _ = whole_model
    folder = model_with(whole, tmp_path, "model.safetensors", PLACES["missing"])
    shutil.copy(whole / "model.safetensors", tmp_path / "outside.safetensors")
    (folder / "x.bin").write_bytes(dict(cut_and_replaced(bytes(99)))["a pickle"])
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": part}}))
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        load_model(folder)


def test_weights_in_several_files_load(whole_model, tmp_path):
    whole, logits = whole_model
    folder = model_with(whole, tmp_path, "model.safetensors", PLACES["missing"])
    weights = load_file(whole / "model.safetensors")
    parts = {name: f"model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(weights)}
    for part in set(parts.values()):
        save_file({n: w for n, w in weights.items() if parts[n] == part}, folder / part, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": parts}))
    assert same_model(logits)(load_model(folder))


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
def test_a_config_cannot_choose_a_kernel(whole_model, tmp_path, key):
    whole, logits = whole_model
    config = json.loads((whole / "config.json").read_bytes()) | {key: "owner/kernel"}
    loaded = load_model(model_with(whole, tmp_path, "config.json", json.dumps(config).encode()))
    assert same_model(logits)(loaded)
    assert loaded[0].config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("lm_head.weight"), "are missing (1: lm_head.weight)"),
        (lambda w: [w.pop(name) for name in list(w)[:5]], "are missing (5: "),
        (
            lambda w: w.update({"lm_head.weight": torch.zeros(20, 8)}),
            "have another shape than config.json says (1: lm_head",
        ),
        (
            lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(24, 16)}),
            "are more than config.json says (1",
        ),
        (lambda w: w.clear(), "are missing"),
    ],
)
def test_weights_that_are_missing_or_do_not_fit_are_named_and_never_drawn_at_random(
    whole_model, tmp_path, change, message
):
    whole, _ = whole_model
    weights = load_file(whole / "model.safetensors")
    change(weights)
    folder = model_with(whole, tmp_path, "model.safetensors", PLACES["missing"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=re.escape(message)):
        load_model(folder)


def test_weights_of_another_kind_are_left_out(whole_model, tmp_path):
    whole, logits = whole_model
    folder = model_with(whole, tmp_path, "model.safetensors", PLACES["missing"])
    weights = load_file(whole / "model.safetensors") | {"vision.patch.weight": torch.zeros(3)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert same_model(logits)(load_model(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "x"}}, "is quantized"),
        ({"hidden_size": 2**20, "intermediate_size": 2**20}, "describes 6,"),
        ({"num_hidden_layers": 10**9}, "expected at most 10000"),
        ({"num_attention_heads": 0}, "makes no model (ZeroDivisionError"),
        ({"hidden_act": "nope"}, "makes no model (KeyError"),
        ({"num_hidden_layers": 1}, "are more than config.json says"),
        ({"num_hidden_layers": 3}, "are missing"),
        ({"model_type": "gpt2"}, "are missing"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_takes_no_memory_and_is_refused(whole_model, tmp_path, changes, message):
    whole, _ = whole_model
    config = json.loads((whole / "config.json").read_bytes()) | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        load_model(model_with(whole, tmp_path, "config.json", json.dumps(config).encode()))


def test_an_adapter_is_no_model(whole_model, tmp_path):
    folder = model_with(whole_model[0], tmp_path, "adapter_config.json", b'{"base_model_name_or_path": "/"}')
    with pytest.raises(ValueError, match="holds an adapter"):
        load_model(folder)


# --- question file, recording ----------------------------------------------------------------------------------------


def test_a_question_file_that_is_cut_replaced_or_a_link_is_refused_or_read_as_it_is(tmp_path):
    path = tmp_path / "q.jsonl"
    whole = b"".join(b'{"question": "%d+1=",\r "answer": "%d"}\r\n' % (k, k + 1) for k in range(9))
    prompts = {f"{k}+1=" for k in range(9)}

    def read(content):
        path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
        path.write_bytes(whole)
        content(path) if callable(content) else path.write_bytes(content)
        return set(question_file(path).sample_prompts(200, torch.Generator().manual_seed(0)))

    tried = [*cut_and_replaced(whole), *PLACES.items()]
    outcomes = {what: judge(lambda c=content: read(c), lambda got: got == prompts) for what, content in tried}
    count("file of questions: cut, replaced, linked", outcomes)
    # Cut between two lines it is a shorter file of questions, as legal as the whole.
    assert all(what.startswith("cut") for what, outcome in outcomes.items() if outcome == "other")


def test_a_recording_that_is_cut_replaced_or_a_link_is_refused(tmp_path):
    path = tmp_path / "r.safetensors"
    save_file({"a": torch.arange(9.0)}, path)
    whole = path.read_bytes()

    def read(content):
        path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
        path.write_bytes(whole)
        content(path) if callable(content) else path.write_bytes(content)
        return load_recording(path)

    def same(got):
        return torch.equal(got["a"], torch.arange(9.0))

    tried = [*cut_and_replaced(whole), *PLACES.items()]
    outcomes = {what: judge(lambda c=content: read(c), same) for what, content in tried}
    count("recording: cut, replaced, linked", outcomes)
    assert "other" not in outcomes.values()


# --- run folder ------------------------------------------------------------------------------------------------------

TINY = ["--prompts", "2", "--group-size", "2", "--rollouts", "2", "--max-new-tokens", "4", "--checkpoint-every", "1"]


def hmpo(monkeypatch, *arguments):
    """The command in this process: what it raises beside its exit would be a traceback."""
    monkeypatch.setattr(sys, "argv", ["hmpo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def files(folder):
    """What lies in a folder: names with checksums, without the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


@pytest.fixture(scope="module")
def stopped(whole_model, tmp_path_factory):
    """A run of two rollouts that stopped behind the first, and the model that it comes to."""
    place = tmp_path_factory.mktemp("runs")
    questions = place / "q.jsonl"
    questions.write_bytes(b"".join(b'{"question": "%d+1=",\r "answer": "%d"}\n' % (k, k + 1) for k in range(9)))
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--model", whole_model[0], "--task", questions, "--method", "hmpo", *TINY]
        assert hmpo(patch, "fine-tune", "--out", place / "run", *arguments) == 0
    weights = (place / "run" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(place / "run" / "model")
    shutil.rmtree(place / "run" / "checkpoints" / "000002")
    return place / "run", weights


refusals = []


def resume(monkeypatch, capfd, stopped, tmp_path, name, content, *, redone=False):
    """What becomes of a run one of whose files is bad."""
    whole, weights = stopped
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run, symlinks=True)
    content(run / name) if callable(content) else (run / name).write_bytes(content)
    if redone:  # by someone who knows how
        write_checksums((run / name).parent)
    before = files(run)
    capfd.readouterr()
    code = hmpo(monkeypatch, "resume", run)
    said = capfd.readouterr().err
    if code == 0:
        return "same" if (run / "model" / "model.safetensors").read_bytes() == weights else "other"
    (line,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    refusals.append(line)
    assert code == 1
    assert len(line) < LONGEST
    assert files(run) == before, name  # nothing is lost
    return "refused"


RUN_FILES = ["config.json", "metrics.csv", "questions.jsonl", "SHA256SUMS", "checkpoints/000001"]
CHECKPOINT_FILES = [
    f"checkpoints/000001/{name}" for name in ("state.json", "model.safetensors", "training.safetensors")
]


@pytest.mark.parametrize("name", RUN_FILES + CHECKPOINT_FILES)
def test_a_runs_file_that_is_cut_replaced_or_a_link_is_refused_or_changes_nothing(
    monkeypatch, capfd, stopped, tmp_path, name
):
    whole = stopped[0] / name
    cuts = [] if whole.is_dir() else [*cut_and_replaced(whole.read_bytes(), cuts=4)]
    outcomes = {
        what: resume(monkeypatch, capfd, stopped, tmp_path, name, content) for what, content in [*cuts, *PLACES.items()]
    }
    count(f"run folder, {name}: cut, replaced, linked", outcomes)
    assert "other" not in outcomes.values()
    assert "refused" in outcomes.values()


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_checkpoint_whose_checksums_were_redone_is_refused_or_changes_nothing(
    monkeypatch, capfd, stopped, tmp_path, name
):
    data = (stopped[0] / name).read_bytes()
    tried = [*cut_and_replaced(data, cuts=4)]
    if name.endswith("json"):
        tried += list(changed_json(json.loads(data)))[::15]
    outcomes = {
        what: resume(monkeypatch, capfd, stopped, tmp_path, name, content, redone=True) for what, content in tried
    }
    count(f"run folder, {name}: the same and its types, checksums redone", outcomes)
    assert "other" not in outcomes.values()


def test_settings_of_a_run_of_other_types_are_refused_also_without_checksums(monkeypatch, capfd, stopped, tmp_path):
    tried = list(changed_json(json.loads((stopped[0] / "config.json").read_bytes()), depth=1))[::6]

    def without_sums(content):
        def write(path):
            path.write_bytes(content)
            (path.parent / CHECKSUM_FILE).unlink()

        return write

    outcomes = {
        what: resume(monkeypatch, capfd, stopped, tmp_path, "config.json", without_sums(content))
        for what, content in tried
    }
    count("run folder, config.json: keys and types, no checksums", outcomes)
    assert "other" not in outcomes.values()


def with_bytes(old, new):
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoints/000001", lambda path: path.rename(path.with_name("000002")), "and the folder is called 000002"),
        ("metrics.csv", with_bytes(b"rollout,", b"roll-out,"), "expected the names of its columns"),
        ("metrics.csv", with_bytes(b"\n0,", b"\n1,"), "expected rollout 0 with"),
        ("metrics.csv", with_bytes(b"\n0,", b"\n0,x"), "expected rollout 0 with"),
        ("metrics.csv", with_bytes(b",", b",other,"), "row 0 of"),
        ("model", lambda path: path.mkdir(), "SHA256SUMS is missing: the model at the end of the run is damaged"),
        ("model", lambda path: path.symlink_to("nowhere"), "the model at the end of the run is damaged"),
    ],
)
def test_what_a_resume_relies_on_is_compared(monkeypatch, capfd, stopped, tmp_path, name, content, message):
    assert resume(monkeypatch, capfd, stopped, tmp_path, name, content) == "refused"
    assert message in refusals[-1]


@pytest.mark.parametrize("done", [99, -5, 0, True, "1", 1.0])
def test_a_checkpoints_count_is_not_believed(monkeypatch, capfd, stopped, tmp_path, done):
    state = json.loads((stopped[0] / "checkpoints" / "000001" / "state.json").read_bytes()) | {"rollouts_done": done}
    content = json.dumps(state).encode()
    name = "checkpoints/000001/state.json"
    assert resume(monkeypatch, capfd, stopped, tmp_path, name, content, redone=True) == "refused"


@pytest.mark.parametrize("change", [lambda t: t.pop(next(iter(t))), lambda t: t.update({next(iter(t)): torch.ones(3)})])
def test_the_optimizers_state_has_the_shapes_of_the_weights(monkeypatch, capfd, stopped, tmp_path, change):
    def rewrite(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    name = "checkpoints/000001/training.safetensors"
    assert resume(monkeypatch, capfd, stopped, tmp_path, name, rewrite, redone=True) == "refused"


@pytest.mark.parametrize("place", ["in use", "not empty"])
def test_a_refused_new_run_touches_nothing(monkeypatch, capfd, stopped, tmp_path, place):
    run = tmp_path / "run"
    shutil.copytree(stopped[0], run) if place == "in use" else run.mkdir()
    for name in (".model.unfinished", ".mine.unfinished", "checkpoints/.000002.unfinished"):
        (run / name).mkdir(parents=True)
        (run / name / "half").write_bytes(b"x")
    before = files(run)
    for command in (["fine-tune", "--method", "hmpo"], ["pretrain"]):
        assert hmpo(monkeypatch, *command, "--out", run) == 1
        assert "exists and is not an empty folder" in capfd.readouterr().err
    assert files(run) == before
    if place == "in use":  # and what is cleared at last is what this program made
        assert hmpo(monkeypatch, "resume", run) == 0
        assert (run / ".mine.unfinished" / "half").exists()
        assert not (run / ".model.unfinished").exists()
        assert not (run / "checkpoints" / ".000002.unfinished").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--out", "run\udcff"], ["--out", "x", "--task", "q\udcff.jsonl"], ["--out", "x", "--model", "m\udcff"]],
)
def test_a_path_that_cannot_be_written_down_is_refused_at_the_start(monkeypatch, capfd, tmp_path, arguments):
    assert hmpo(monkeypatch, "fine-tune", "--method", "hmpo", *arguments) == 1
    assert "is not UTF-8" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_link_to_nowhere_is_refused(monkeypatch, capfd, tmp_path):
    (tmp_path / "run").symlink_to("nowhere")
    assert hmpo(monkeypatch, "fine-tune", "--method", "hmpo", "--out", "run") == 1
    assert "exists and is not an empty folder" in capfd.readouterr().err


@pytest.mark.parametrize("seed", [2**64, -1, 2**70])
@pytest.mark.parametrize("command", [["fine-tune", "--method", "hmpo"], ["pretrain"]])
def test_a_seed_beyond_64_bits_is_refused(monkeypatch, capfd, tmp_path, seed, command):
    assert hmpo(monkeypatch, *command, "--out", "run", "--seed", seed) in (1, 2)
    assert "seed" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_gives_the_same_numbers_whatever_the_default_dtype_is(monkeypatch, capfd, stopped, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        assert resume(monkeypatch, capfd, stopped, tmp_path, "metrics.csv", lambda path: None) == "same"
    finally:
        torch.set_default_dtype(torch.float32)


# --- what the file system of Windows allows --------------------------------------------------------------------------


def test_checkpoints_are_written_where_folders_cannot_be_opened_nor_files_flushed_for_reading(monkeypatch, tmp_path):
    """Windows: opening a folder is no permission, and flushing needs a descriptor that may write."""
    writable, windows = {}, SimpleNamespace(**vars(os))

    def opened(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        descriptor = os.open(path, flags, *rest, **options)
        writable[descriptor] = bool(flags & (os.O_RDWR | os.O_WRONLY))
        return descriptor

    def flushed(descriptor):
        if not writable[descriptor]:
            raise OSError(errno.EBADF, "Bad file descriptor")
        os.fsync(descriptor)

    windows.open, windows.fsync = opened, flushed
    monkeypatch.setattr(durable, "os", windows)
    with pytest.raises(PermissionError):
        durable.flush(tmp_path)
    monkeypatch.setattr(durable, "_IS_WINDOWS", True)
    for _ in range(2):  # also in the place of one that is there
        with durable.new_folder(tmp_path / "folder") as folder:
            (folder / "file").write_bytes(b"x")
        durable.write_file(tmp_path / "file", b"y")
    assert durable.damage(tmp_path / "folder", ("file",)) is None
    assert (tmp_path / "file").read_bytes() == b"y"
