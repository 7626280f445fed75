"""The folder of one fine-tuning run: what was asked, what was measured, where it stands, and the model at the end."""

import copy
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hmpo_lib.lm.checkpoints import Checkpoints
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.durable import clear_unfinished, flush, new_folder, write_file
from hmpo_lib.lm.model import save_model
from hmpo_lib.lm.records import StepRecord, rollout_row

_LOCK = ".lock"


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
        """Raises FileExistsError where the folder holds something already."""
        if self.path.is_dir():
            clear_unfinished(self.path)
        require_new_folder(self.path)

    def create(self, settings: dict[str, Any]) -> None:
        """Makes the folder, locks it, and writes config.json.

        Raises:
            FileExistsError: there is something in it.
            BlockingIOError: another run has begun there at this moment.
        """
        self.require_new()
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock()
        write_file(self.config, json.dumps(settings, indent=1) + "\n")

    def settings(self, names: set[str]) -> dict[str, Any]:
        """What config.json says.

        Args:
            names: of all settings that have to be there.

        Raises:
            FileNotFoundError: no run there.
            ValueError: a file that is not JSON, or does not hold these settings.
        """
        if not self.config.is_file():
            raise FileNotFoundError(
                f"no run in {self.path}: expected a config.json there; give the --out of a run that has begun, or one "
                "checkpoint in it."
            )
        try:
            settings: dict[str, Any] = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.config} is not JSON ({error}): restore it, or start the run anew.") from error
        if not isinstance(settings, dict) or settings.keys() != names:
            raise ValueError(
                f"{self.config} does not hold the settings of a run: expected {', '.join(sorted(names))}; restore it, "
                "or start the run anew."
            )
        return settings

    def keep_task(self, task: str) -> str:
        """The task, by a copy in this folder if it is a file: what is edited or deleted later changes no run."""
        if not task.endswith(".jsonl"):
            return task
        if not self.questions.exists():
            write_file(self.questions, Path(task).read_text(encoding="utf-8"))
        return str(self.questions)

    def rewind(self, rollouts_done: int) -> None:
        """Cuts metrics.csv to the first ``rollouts_done`` rows; those behind are measured again, to the same bytes.

        Raises:
            ValueError: it has fewer rows.
        """
        clear_unfinished(self.path)
        text = self.metrics.read_text(encoding="utf-8", errors="replace") if self.metrics.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]  # a torn last line has no end
        if len(lines) < rollouts_done + 1 and rollouts_done:
            raise ValueError(
                f"{self.metrics} has {max(0, len(lines) - 1)} rows: expected at least the {rollouts_done} before the "
                "checkpoint; restore it, or resume from an earlier checkpoint."
            )
        write_file(self.metrics, "".join(lines[: rollouts_done + 1]) if rollouts_done else "")

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
        """Whether the run has come to its end."""
        return self.model.exists()


def open_run(path: Path) -> tuple[RunFolder, Path | None]:
    """A run and the checkpoint to go on from, None for the start, from the run's folder or one checkpoint in it."""
    path = path.resolve()  # so that its parents have names
    if path.parent.name == "checkpoints" and not (path / "config.json").exists():
        return RunFolder(path.parent.parent), path
    run = RunFolder(path)
    checkpoints = Checkpoints(run.checkpoints).all()
    return run, checkpoints[-1] if checkpoints else None


def require_new_folder(path: Path) -> None:
    """Raises FileExistsError where a folder that is to be made holds something."""
    if path.exists() and (not path.is_dir() or any(file.name != _LOCK for file in path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder: expected a new one; give another --out.")
