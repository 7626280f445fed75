"""The folder of one fine-tuning run: what was asked, what was measured, where it stands, and the model at the end."""

import copy
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.checkpoints import Checkpoints
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.durable import (
    CHECKSUM_FILE,
    checksums,
    clear_rests,
    damage,
    flush,
    hidden_name,
    new_folder,
    write_file,
)
from hmpo_lib.lm.model import save_model
from hmpo_lib.lm.reading import read_object, require_file, require_keys, require_plain_path
from hmpo_lib.lm.records import StepRecord, rollout_row

_LOCK = ".lock"
_NUMBER_TEXT = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?|inf|nan)")
_ADVICE = "restore it, or start the run anew"
# Of config.json: what the command was told. FineTuneConfig looks at the values.
_NUMBER, _TEXT = float, (str, type(None))
_TYPES: dict[str, type | tuple[type, ...]] = {
    "method": str,
    "model": _TEXT,
    "pad_token": _TEXT,
    "max_tokens_per_pass": (int, type(None)),
    "task": str,
    "device": _TEXT,
    "kl_estimator": str,
    "optimizer": str,
    "dtype": str,
    "monitor_logits": bool,
    "learning_rate": _NUMBER,
    "temperature": _NUMBER,
    "max_gradient_norm": _NUMBER,
    "qk_clip_threshold": _NUMBER,
    "kl_coefficient": _NUMBER,
}


class RunFolder:
    """A folder with config.json, metrics.csv, checkpoints/ and, at the end, model/; a file of questions is copied in.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.questions = self.path / "questions.jsonl"
        self.checksums = self.path / CHECKSUM_FILE  # of config.json and questions.jsonl
        self._lock = FileLock(self.path / _LOCK)

    def lock(self) -> None:
        """Keeps every other process out until this one ends, by a crash too, or `finish` is through.

        Raises:
            BlockingIOError: a run that is not over holds it.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise BlockingIOError(
                f"{self.path} is in use by a run that is not over: expected none; wait for it, or stop it first."
            ) from error

    def require_new(self) -> None:
        """Raises FileExistsError where the folder holds something already; touches nothing."""
        require_new_folder(self.path, besides=(_LOCK, hidden_name(self.config).name))

    def create(self, settings: dict[str, Any]) -> None:
        """Makes the folder, locks it, and writes config.json, the copy of a file of questions, and their checksums.

        Raises:
            FileExistsError: there is something in it.
            BlockingIOError: another run has begun there at this moment.
        """
        self.require_new()
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        self.require_new()  # another run may have come and gone
        write_file(self.config, (json.dumps(settings, indent=1) + "\n").encode())
        self.keep_task(settings["task"])
        self._write_checksums()

    def settings(self, names: set[str]) -> dict[str, Any]:
        """What config.json says.

        Args:
            names: of all settings that have to be there.

        Raises:
            FileNotFoundError: no run there.
            ValueError: a file that is not JSON, or does not hold these settings.
        """
        if not self.config.exists():
            raise FileNotFoundError(
                f"no run in {self.path}: expected a config.json there; give the --out of a run that has begun, or one "
                "checkpoint in it."
            )
        settings = read_object(self.config, advice=_ADVICE)
        if settings.keys() != names:
            raise ValueError(
                f"{self.config} does not hold the settings of a run: expected {', '.join(sorted(names))}; {_ADVICE}."
            )
        require_keys(settings, {name: _TYPES.get(name, int) for name in names}, f"{self.config}", advice=_ADVICE)
        if self.checksums.exists() and (fault := damage(self.path, ("config.json",))):
            raise ValueError(f"{fault}: the run would go on otherwise than it began; {_ADVICE}.")
        return settings

    def _write_checksums(self) -> None:
        write_file(self.checksums, checksums([file for file in (self.config, self.questions) if file.exists()]))

    def keep_task(self, task: str) -> str:
        """The task, by a copy in this folder if it is a file: what is edited or deleted later changes no run."""
        if not task.endswith(".jsonl"):
            return task
        if not self.questions.exists():
            require_file(Path(task), advice="restore the file of questions, or start the run anew")
            write_file(self.questions, Path(task).read_bytes())
        return str(self.questions)

    def require_rows(self, rollouts_done: int) -> list[str]:
        """The header of metrics.csv and its first ``rollouts_done`` rows, without line ends; touches nothing.

        Raises:
            ValueError: it has fewer rows, or one that is not of its rollout.
        """
        if not rollouts_done:
            return []
        require_file(self.metrics, advice="restore it, or resume from the start: remove checkpoints/")
        lines = self.metrics.read_bytes().decode("utf-8", "replace").split("\n")[:-1]  # a torn last line has no end
        header, *rows = [line.removesuffix("\r") for line in lines[: rollouts_done + 1]] or [""]
        if len(rows) < rollouts_done:
            raise ValueError(
                f"{self.metrics} has {len(rows)} rows: expected at least the {rollouts_done} before the checkpoint; "
                "restore it, or resume from an earlier checkpoint."
            )
        names = header.split(",")
        if names[0] != "rollout" or len({*names}) < len(names) or not all(name.isidentifier() for name in names):
            raise ValueError(
                f"{self.metrics} begins with {header!r:.80}: expected the names of its columns; {_ADVICE}."
            )
        for index, row in enumerate(rows):
            if row.partition(",")[0] != str(index) or not _holds_numbers(row, len(names)):
                raise ValueError(
                    f"row {index} of {self.metrics} is {row!r:.80}: expected rollout {index} with {len(names)} "
                    "numbers; restore it, or resume from an earlier checkpoint."
                )
        return [header, *rows]

    def rewind(self, rollouts_done: int) -> None:
        """Cuts metrics.csv to the first ``rollouts_done`` rows; those behind are measured again, to the same bytes.

        Raises:
            ValueError: it has fewer rows, or others.
        """
        if not self.checksums.exists():  # the run ended between its settings and their checksums
            self._write_checksums()
        rows = self.require_rows(rollouts_done)
        for file in (self.config, self.metrics, self.questions, self.checksums, self.model):
            clear_rests(file)
        write_file(self.metrics, "".join(f"{row}\n" for row in rows).encode())

    def write_rows(self, records: Iterator[StepRecord], config: FineTuneConfig) -> Iterator[dict[str, float]]:
        """Appends a row to metrics.csv for each rollout, on the disk before the next one begins, and gives it.

        A row is written as soon as its last step is there: so no checkpoint is ever ahead of metrics.csv.

        Raises:
            OSError: it could not be written.
        """
        steps: list[StepRecord] = []
        for record in records:
            steps.append(record)
            if len(steps) == config.steps_per_rollout:
                row = rollout_row(steps)
                self._append(row)
                steps = []
                yield row

    def _append(self, row: dict[str, float]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")  # as `rewind` writes them
        if not self.metrics.exists() or self.metrics.stat().st_size == 0:
            writer.writeheader()
        else:
            with self.metrics.open(encoding="utf-8") as file:
                header = file.readline().strip()
            if header != ",".join(row):
                raise ValueError(
                    f"{self.metrics} has the columns {header}, and this run measures {','.join(row)}: expected the "
                    f"same; {_ADVICE}."
                )
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        try:
            with self.metrics.open("ab") as file:
                file.write(text.getvalue().encode())
            flush(self.metrics)
        except OSError as error:
            raise OSError(error.errno, f"{self.metrics} could not be written: {error.strerror}") from error

    def finish(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Writes the model; its folder is there only once it is whole."""
        tokenizer = copy.deepcopy(tokenizer)
        if tokenizer.is_fast:  # it remembers the padding of its last batch, and a resumed run may not have had one
            tokenizer.backend_tokenizer.no_padding()
        with new_folder(self.model) as folder:
            save_model(model, tokenizer, folder)
        self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end.

        Raises:
            ValueError: there is a model, and it is not as it was written.
        """
        if not self.model.exists() and not self.model.is_symlink():
            return False
        if fault := damage(self.model, ("config.json",)):
            raise ValueError(
                f"{fault}: the model at the end of the run is damaged; restore it, or remove {self.model} to have it "
                "made again from the last checkpoint."
            )
        return True


def _holds_numbers(row: str, count: int) -> bool:
    values = row.split(",")
    return len(values) == count and all(_NUMBER_TEXT.fullmatch(value) for value in values)


def open_run(path: Path) -> tuple[RunFolder, Path | None]:
    """A run and the checkpoint to go on from, None for the start, from the run's folder or one checkpoint in it."""
    path = (
        path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    )  # so that its parents have names
    if path.parent.name == "checkpoints" and not (path / "config.json").exists():
        return RunFolder(path.parent.parent), path
    run = RunFolder(path)
    checkpoints = Checkpoints(run.checkpoints).all()
    return run, checkpoints[-1] if checkpoints else None


def require_new_folder(path: Path, besides: tuple[str, ...] = ()) -> None:
    """Raises FileExistsError where a folder that is to be made holds something besides; touches nothing.

    Raises:
        FileExistsError: it does, or there is a file or a link that leads nowhere.
        ValueError: its path is not UTF-8.
    """
    require_plain_path(path)
    there = path.exists() or path.is_symlink()
    if there and (not path.is_dir() or any(file.name not in besides for file in path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder: expected a new one; give another --out.")
