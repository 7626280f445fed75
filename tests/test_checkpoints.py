"""Checkpoints: what they hold, what is refused, and that a failure leaves the one before."""

import copy
import dataclasses
import errno
import json
import os
import subprocess

import pytest
import torch
from safetensors import SafetensorError

from hmpo_lib import LearnableExponent, Method, Objective
from hmpo_lib.lm import Checkpoints, FineTuneConfig, fine_tune, load_base_model
from hmpo_lib.lm.checkpoints import load_checkpoint
from hmpo_lib.lm.durable import damage, new_folder
from hmpo_lib.lm.state import TrainingState

SMALL = FineTuneConfig(rollouts=5, prompts=2, group_size=4, minibatches=2, max_new_tokens=8, learning_rate=1e-3)
FILES = ["model.safetensors", "training.safetensors", "state.json"]


def numbers(records):
    return [{k: v for k, v in record.metrics.items() if k != "seconds"} for record in records]


def run(config=SMALL, **options):
    model, tokenizer = load_base_model()
    return list(fine_tune(model, tokenizer, config, **options)), model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The checkpoints after rollouts 4 and 5 of a run with everything that has a state."""
    checkpoints = Checkpoints(tmp_path_factory.mktemp("run") / "checkpoints", every=2)
    config = dataclasses.replace(SMALL, optimizer="muonclip", kl_coefficient=0.1, warmup_steps=3, qk_clip_threshold=5.0)
    return checkpoints, config, *run(config, checkpoints=checkpoints)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of them that a test may damage."""
    subprocess.run(["cp", "-r", finished[0].folder, tmp_path / "checkpoints"], check=True)
    return Checkpoints(tmp_path / "checkpoints", every=2)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_last_two_are_kept_with_one_after_the_last_rollout_and_nothing_unfinished(finished):
    checkpoints = finished[0]
    assert [path.name for path in checkpoints.all()] == ["000004", "000005"]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["000004", "000005", "reference"]
    assert sorted(path.name for path in checkpoints.latest().iterdir()) == sorted([*FILES, "SHA256SUMS"])


def test_sha256sum_agrees_with_the_list_of_checksums(finished):
    for folder in (finished[0].latest(), finished[0].folder / "reference"):
        subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)


def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(finished, copied):
    _, config, records, model = finished
    again, resumed = run(config, checkpoints=copied, resume_from=copied.all()[0])
    assert numbers(again) == numbers(records[8:])
    assert same_weights(resumed, model)
    for one, other in zip(copied.all(), finished[0].all(), strict=True):
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


@pytest.mark.parametrize(("lag", "steps"), [(1, 5), (3, 5), (3, 9)])
def test_a_run_whose_sampler_lags_goes_on_with_the_policies_that_it_had(tmp_path, lag, steps):
    config = dataclasses.replace(SMALL, policy_lag=lag, max_new_tokens=24)
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=2)
    model, tokenizer = load_base_model()
    stopped = fine_tune(model, tokenizer, config, checkpoints=checkpoints)
    records = [next(stopped) for _ in range(steps)]
    stopped.close()
    whole, unbroken = run(config)
    assert numbers(records) == numbers(whole[: len(records)])
    checkpoint = checkpoints.latest()
    done = int(checkpoint.name)
    again, resumed = run(config, resume_from=checkpoint)
    assert numbers(again) == numbers(whole[2 * done :])
    assert same_weights(resumed, unbroken)
    # With the present weights in place of the past ones it would go on otherwise.
    state = TrainingState.start(load_base_model()[0], config)
    load_checkpoint(checkpoint, state, config)
    assert len(state.past) == min(lag, done)
    assert not same_weights(state.sampler(), state.model)


def test_a_run_without_the_generators_states_would_go_on_otherwise(finished, copied):
    """The comparison above can fail: the same weights with fresh generators sample something else."""
    _, config, records, _ = finished
    model, tokenizer = load_base_model()
    state = TrainingState.start(model, config)
    load_checkpoint(copied.all()[0], state, config)
    rest = dataclasses.replace(config, rollouts=1)
    assert numbers(fine_tune(state.model, tokenizer, rest))[0] != numbers(records)[8]


def test_a_finished_run_has_nothing_left_to_do(finished):
    checkpoints, config, _, model = finished
    records, resumed = run(config, resume_from=checkpoints.latest())
    assert records == []
    assert same_weights(resumed, model)


def test_saving_changes_no_number_of_the_run(tmp_path):
    plain, one = run()
    saved, other = run(checkpoints=Checkpoints(tmp_path / "checkpoints", every=1))
    assert numbers(plain) == numbers(saved)
    assert same_weights(one, other)


def test_a_learnable_exponent_goes_on_from_where_it_was(tmp_path):
    def config():
        exponent = LearnableExponent(start=0.5, learning_rate=0.1)
        return dataclasses.replace(SMALL, method=Method(Objective(None), "test", p_schedule=exponent))

    checkpoints = Checkpoints(tmp_path / "checkpoints", every=2)
    records, _ = run(config(), checkpoints=checkpoints)
    again, _ = run(config(), resume_from=checkpoints.all()[0])
    assert [record.p for record in again] == [record.p for record in records[8:]]
    assert again[-1].p != 0.5


@pytest.mark.parametrize("file", [*FILES, "SHA256SUMS"])
@pytest.mark.parametrize("harm", ["truncated", "tampered", "missing"])
def test_a_damaged_file_is_named_with_the_checkpoint_before_which_still_loads(finished, copied, file, harm):
    _, config, records, _ = finished
    path = copied.latest() / file
    content = path.read_bytes()
    changed = {"truncated": content[: len(content) // 2], "tampered": bytes([content[0] ^ 1]) + content[1:]}
    path.unlink() if harm == "missing" else path.write_bytes(changed[harm])
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        run(config, resume_from=copied.latest())
    assert str(copied.latest()) in str(error.value)
    assert f"The last good checkpoint is {copied.all()[0]}." in str(error.value)
    assert numbers(run(config, resume_from=copied.all()[0])[0]) == numbers(records[8:])


def test_a_damaged_reference_is_named(finished, copied):
    (copied.folder / "reference" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"reference/model\.safetensors is not as it was written"):
        run(finished[1], resume_from=copied.latest())


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_ends_the_run_with_the_checkpoint_that_resumes_it(tmp_path, monkeypatch, call):
    plain, _ = run()
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=2)
    model, tokenizer = load_base_model()
    records = fine_tune(model, tokenizer, SMALL, checkpoints=checkpoints)
    for _ in range(5):
        next(records)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match=r"000004 could not be written: No space left .* checkpoint is .*000002\.$"):
            list(records)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["000002"]
    again, _ = run(checkpoints=checkpoints, resume_from=checkpoints.latest())
    assert numbers(again) == numbers(plain[4:])


def test_a_disk_that_is_full_while_tensors_are_written_is_said_as_such(tmp_path, monkeypatch):
    def full(*args):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("hmpo_lib.lm.checkpoints.save_model", full)
    with pytest.raises(OSError, match=r"000002 could not be written: I/O error: No space left.* no good checkpoint in"):
        run(checkpoints=Checkpoints(tmp_path / "checkpoints", every=2))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_resuming_before_the_newest_checkpoint_removes_what_comes_after_it_at_once(finished, copied):
    model, tokenizer = load_base_model()
    fine_tune(model, tokenizer, finished[1], checkpoints=copied, resume_from=copied.all()[0])
    assert [path.name for path in copied.all()] == ["000004"]


def test_the_reference_of_a_resumed_run_is_the_model_at_the_start_whatever_is_given(finished, copied):
    _, config, records, _ = finished
    moved, tokenizer = load_base_model()
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.01)
    again = list(fine_tune(moved, tokenizer, config, resume_from=copied.all()[0]))
    assert numbers(again) == numbers(records[8:])


def test_a_model_whose_resume_failed_is_not_watched(finished, copied):
    model, tokenizer = load_base_model()
    before = model.config._attn_implementation
    (copied.latest() / "state.json").unlink()
    with pytest.raises(ValueError, match=r"state\.json is missing"):
        fine_tune(model, tokenizer, finished[1], resume_from=copied.latest())
    assert model.config._attn_implementation == before


def test_an_exponent_that_was_made_otherwise_is_refused(tmp_path):
    def with_bound(bound):
        return dataclasses.replace(
            SMALL, method=Method(Objective(None), "t", p_schedule=LearnableExponent(bound=bound))
        )

    checkpoints = Checkpoints(tmp_path / "checkpoints", every=5)
    run(with_bound(2.0), checkpoints=checkpoints)
    with pytest.raises(ValueError, match=r"method is .*bound=8\.0.* is of a run with .*bound=2\.0"):
        run(with_bound(8.0), checkpoints=checkpoints, resume_from=checkpoints.latest())


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    with new_folder(tmp_path / "x") as folder:
        (folder / "file").write_text("old")
    rename = os.rename

    def second_fails(source, target, **options):
        if str(source).endswith(".x.unfinished"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OSError, match="could not be written"), new_folder(tmp_path / "x") as folder:
        (folder / "file").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x" / "file").read_text() == "old"


def test_a_folder_that_a_crash_left_aside_comes_back(tmp_path, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(source, target, **options):
        if str(source).endswith(".x.unfinished"):
            raise Crash
        return rename(source, target, **options)

    rename = os.rename
    with new_folder(tmp_path / "x") as folder:
        (folder / "file").write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", crash)
        with pytest.raises(Crash), new_folder(tmp_path / "x") as folder:
            (folder / "file").write_text("new")
    assert not (tmp_path / "x").exists()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "x"):
        raise RuntimeError
    assert (tmp_path / "x" / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_what_a_crash_has_left_unfinished_is_ignored_and_cleared_away(finished, copied):
    (copied.folder / ".000006.unfinished").mkdir()
    (copied.folder / ".000006.unfinished" / "model.safetensors").write_bytes(b"half")
    assert copied.latest().name == "000005"
    run(finished[1], checkpoints=copied, resume_from=copied.latest())
    assert not (copied.folder / ".000006.unfinished").exists()


def test_a_new_run_does_not_touch_the_checkpoints_of_an_earlier_one(copied):
    with pytest.raises(FileExistsError, match="has checkpoints of an earlier run, the newest 000005"):
        run(checkpoints=copied)
    assert len(copied.all()) == 2


def test_a_run_that_is_resumed_into_another_folder_takes_no_other_runs_place(finished, copied):
    _, config, records, _ = finished
    with pytest.raises(FileExistsError, match="has checkpoints of an earlier run"):
        run(config, checkpoints=copied, resume_from=finished[0].latest())
    assert [path.name for path in copied.all()] == ["000004", "000005"]
    empty = Checkpoints(copied.folder.parent / "empty", every=2)
    assert numbers(run(config, checkpoints=empty, resume_from=copied.all()[0])[0]) == numbers(records[8:])
    reference = "reference/model.safetensors"
    assert (empty.folder / reference).read_bytes() == (copied.folder / reference).read_bytes()


@pytest.mark.parametrize("every", [0, 2.5, True])
def test_a_distance_of_checkpoints_that_is_no_whole_number_is_refused(tmp_path, every):
    with pytest.raises(ValueError, match="expected a whole number of rollouts from 1"):
        Checkpoints(tmp_path, every=every)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed is 1, and .* is of a run with 0"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw', and .* is of a run with 'muonclip'"),
        ({"method": Method(Objective(0.0), "test")}, "method is .* is of a run with 'gspo'"),
    ],
)
def test_a_checkpoint_of_a_run_with_other_settings_is_refused(finished, changes, message):
    with pytest.raises(ValueError, match=message):
        run(dataclasses.replace(finished[1], **changes), resume_from=finished[0].latest())


def test_a_checkpoint_of_another_format_or_another_model_is_refused(finished, copied):
    model, tokenizer = load_base_model()
    smaller = copy.deepcopy(model.config)
    smaller.num_hidden_layers = 1
    config = dataclasses.replace(SMALL, rollouts=2)
    checkpoints = Checkpoints(copied.folder.parent / "of_the_smaller")
    list(fine_tune(type(model)(smaller).eval(), tokenizer, config, checkpoints=checkpoints))
    with pytest.raises(ValueError, match="is of a model of another shape"):
        fine_tune(model, tokenizer, config, resume_from=checkpoints.latest())
    state = json.loads((copied.latest() / "state.json").read_text())
    with new_folder(copied.folder / "000006") as folder:
        for name in FILES[:2]:
            (folder / name).write_bytes((copied.folder / "000005" / name).read_bytes())
        (folder / "state.json").write_text(json.dumps(state | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99: expected 1"):
        run(finished[1], resume_from=copied.latest())


def test_where_no_checkpoint_is_the_error_says_what_one_looks_like(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*: expected one such as .*000010"):
        Checkpoints(tmp_path).latest()
    with pytest.raises(FileNotFoundError, match="no checkpoint at "):
        run(resume_from=tmp_path / "000010")


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=2)
    model, tokenizer = load_base_model()
    records = fine_tune(model, tokenizer, SMALL, checkpoints=checkpoints)
    for _ in range(8):
        next(records)
    next(model.parameters()).data[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"is not finite after rollout 3.* checkpoint is .*000002\."):
        next(records)
    assert [path.name for path in checkpoints.all()] == ["000002"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    def crash_half_way():
        with new_folder(tmp_path / "new") as folder:
            (folder / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash_half_way()
    assert list(tmp_path.iterdir()) == []
    for content in ("old", "new"):
        with new_folder(tmp_path / "new") as folder:
            (folder / "file").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "file").read_text() == "new"
    assert damage(tmp_path / "new", ("file",)) is None
    assert "has no checksum of other" in damage(tmp_path / "new", ("other",))
