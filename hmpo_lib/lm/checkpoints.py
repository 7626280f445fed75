"""Checkpoints of a fine-tuning run: all of its state, so that it goes on bit for bit after any crash.

    checkpoints/reference/model.safetensors     the model at the start, where a KL penalty needs it; written once
    checkpoints/000010/model.safetensors        the weights after 10 rollouts
                       training.safetensors     the state of optimizer, monitor, generators and learnable exponent
                       past.safetensors         the weights before each of the last rollouts, where the sampler lags
                       state.json               settings, rollouts done, and what in the state is no tensor
                       SHA256SUMS               of these files, checked before they are read

What a seed decides is part of it. What your own sample_prompts or reward_fn keep to themselves is not.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.durable import clear_rests, damage, discard, left_unfinished, new_folder
from hmpo_lib.lm.reading import Reading, read_object, require_keys
from hmpo_lib.lm.state import TrainingState

FORMAT = 1
_FILES = ("model.safetensors", "training.safetensors", "state.json")
_NAME = re.compile("[0-9]{6,}")
_KEPT = 2
_ADVICE = "restore it, or resume from another checkpoint"


class Checkpoints:
    """The folder of one run's checkpoints, the last two of which are kept.

    Args:
        folder: where they lie, or will.
        every: rollouts from one checkpoint to the next; there is always one after the last rollout.

    Raises:
        ValueError: ``every`` is not a whole number from 1.
    """

    def __init__(self, folder: str | Path, every: int = 10) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every is {every}: expected a whole number of rollouts from 1.")
        self.folder = Path(folder)
        self.every = every

    def all(self) -> list[Path]:
        """The checkpoints that are there, the oldest first, whole or damaged."""
        return sorted(
            (path for path in self.folder.glob("*") if _NAME.fullmatch(path.name)), key=lambda path: int(path.name)
        )

    def latest(self) -> Path:
        """The newest checkpoint.

        Raises:
            FileNotFoundError: there is none.
        """
        if not (paths := self.all()):
            raise FileNotFoundError(f"no checkpoint in {self.folder}: expected one such as {self._path(self.every)}.")
        return paths[-1]

    def last_whole(self) -> str:
        """A sentence on the newest checkpoint that loads."""
        whole = [path for path in self.all() if not damage(path, _FILES)]
        return (
            f"The last good checkpoint is {whole[-1]}." if whole else f"There is no good checkpoint in {self.folder}."
        )

    def holds(self, checkpoint: Path) -> bool:
        """Whether a checkpoint lies in this folder."""
        return Path(checkpoint).parent.resolve() == self.folder.resolve()

    def require_empty(self) -> None:
        """Raises FileExistsError where an earlier run has left checkpoints."""
        if paths := self.all():
            raise FileExistsError(
                f"{self.folder} has checkpoints of an earlier run, the newest {paths[-1].name}: expected none; give it "
                "as resume_from to go on with that run, or another folder."
            )

    def tidy(self, rollouts_done: int) -> None:
        """Leaves the two newest checkpoints up to ``rollouts_done``, and nothing unfinished.

        Later ones are of a future that the run has left, by resuming before them.
        """
        for name in list(left_unfinished(self.folder)):
            if name == "reference" or _NAME.fullmatch(name):
                clear_rests(self.folder / name)
        past = [path for path in self.all() if int(path.name) <= rollouts_done]
        for path in self.all():
            if path not in past[-_KEPT:]:
                discard(path)

    def due(self, rollouts_done: int, rollouts: int) -> bool:
        """Whether a checkpoint is to be written now."""
        return rollouts_done % self.every == 0 or rollouts_done == rollouts

    def save(self, state: TrainingState, config: FineTuneConfig) -> None:
        """Writes the state, atomically, then removes all checkpoints but it and the one before it.

        Raises:
            OSError: it could not be written.
            FloatingPointError: a weight is not finite.
        """
        for name, weight in state.model.named_parameters():
            if not bool(weight.isfinite().all()):
                raise FloatingPointError(f"{name} is not finite after rollout {state.rollouts_done - 1}.")
        path = self._path(state.rollouts_done)
        try:
            if state.reference is not None and not self.all():
                with new_folder(self.folder / "reference") as folder:
                    save_model(state.reference, str(folder / "model.safetensors"))
            with new_folder(path) as folder:
                _write(state, config, folder)
        except OSError as error:
            raise OSError(f"{error}. {self.last_whole()}") from error
        self.tidy(state.rollouts_done)

    def _path(self, rollouts_done: int) -> Path:
        return self.folder / f"{rollouts_done:06d}"


def load_checkpoint(path: Path, state: TrainingState, config: FineTuneConfig) -> None:
    """Puts a checkpoint into the state that `TrainingState.start` made from the same config.

    Raises:
        FileNotFoundError: no folder there.
        ValueError: a checkpoint that is damaged (with the name of one that is not), or of another run.
    """
    path = Path(path)
    saved = _read_state(path, config)
    if state.reference is not None:
        reference = path.parent / "reference"
        if fault := damage(reference, ("model.safetensors",)):
            raise ValueError(f"{fault}: no checkpoint of this run can go on without its reference; start it anew.")
        _load_weights(state.reference, reference)
    _load_weights(state.model, path)
    with Reading(f"{path} is not what a run of these settings writes", advice=_ADVICE):
        if config.policy_lag:
            past = load_file(path / "past.safetensors")
            for index in range(min(config.policy_lag, saved["rollouts_done"])):
                state.past.append(
                    {
                        name: _fitting(past[f"{index}.{name}"], weight).to(weight.device, copy=True)
                        for name, weight in state.model.named_parameters()
                    }
                )
        tensors = load_file(path / "training.safetensors")
        tree = _join(saved["state"], {name: tensor.clone() for name, tensor in tensors.items()})
        optimizer = tree["optimizer"]
        optimizer["state"] = {int(index): value for index, value in optimizer["state"].items()}
        weights = [weight for group in state.optimizer.param_groups for weight in group["params"]]
        for index, values in optimizer["state"].items():
            for value in values.values():
                if isinstance(value, Tensor) and value.ndim:  # a count of steps has no shape
                    _fitting(value, weights[index])
        # Groups and their rates come from the config; see TrainingState.set_learning_rates.
        state.optimizer.load_state_dict(state.optimizer.state_dict() | optimizer)
        state.prompt_generator.set_state(tree["prompt_generator"])
        state.token_generator.set_state(tree["token_generator"])
        if state.exponent is not None:
            state.exponent.load_state_dict(tree["exponent"])
    state.rollouts_done = saved["rollouts_done"]


def _read_state(path: Path, config: FineTuneConfig) -> dict[str, Any]:
    """What a checkpoint's state.json says, once it agrees with the folder's name, its checksums and the config."""
    if path.is_symlink() or not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}: expected a folder such as checkpoints/000010, and no link.")
    if fault := damage(path, _FILES):
        raise ValueError(f"{fault}: the checkpoint is damaged. {Checkpoints(path.parent).last_whole()}")
    where = f"{path / 'state.json'}"
    saved = read_object(path / "state.json", advice=_ADVICE)
    require_keys(saved, {"format": int, "rollouts_done": int, "settings": dict, "state": dict}, where, advice=_ADVICE)
    if saved["format"] != FORMAT:
        raise ValueError(f"{path} has format {saved['format']}: expected {FORMAT}; use the hmpo-lib that wrote it.")
    done = saved["rollouts_done"]
    if not _NAME.fullmatch(path.name) or int(path.name) != done:
        raise ValueError(
            f"{where} is of {done} rollouts, and the folder is called {path.name}: expected {done:06d}; give it its "
            "name back, or resume from another checkpoint."
        )
    if not 1 <= done <= config.rollouts:
        raise ValueError(f"{where} is of {done} rollouts, and the run has {config.rollouts}: {_ADVICE}.")
    # A run that is older than a setting has gone by its default.
    settings = {field.name: field.default for field in dataclasses.fields(config)} | saved["settings"]
    for name, value in json.loads(json.dumps(config.settings())).items():
        if settings[name] != value:
            raise ValueError(f"{name} is {value!r}, and {path} is of a run with {settings[name]!r}.")
    return saved


def _fitting(value: Tensor, weight: Tensor) -> Tensor:
    """The value, if it has the shape of the weight that it belongs to."""
    if value.shape != weight.shape:
        raise ValueError(f"got a tensor of shape {tuple(value.shape)} for a weight of {tuple(weight.shape)}")
    return value


def _write(state: TrainingState, config: FineTuneConfig, folder: Path) -> None:
    optimizer = state.optimizer.state_dict()
    del optimizer["param_groups"]
    tree = {
        "optimizer": optimizer,
        "prompt_generator": state.prompt_generator.get_state(),
        "token_generator": state.token_generator.get_state(),
        "exponent": state.exponent.state_dict() if state.exponent is not None else None,
    }
    tensors: dict[str, Tensor] = {}
    values = {
        "format": FORMAT,
        "rollouts_done": state.rollouts_done,
        "settings": config.settings(),
        "state": _split(tree, "state", tensors),
    }
    save_model(state.model, str(folder / "model.safetensors"))
    save_file(tensors, folder / "training.safetensors")
    if state.past:
        past = {
            f"{index}.{name}": weight for index, weights in enumerate(state.past) for name, weight in weights.items()
        }
        save_file(past, folder / "past.safetensors")
    (folder / "state.json").write_text(json.dumps(values, indent=1), encoding="utf-8")


def _load_weights(model: PreTrainedModel, folder: Path) -> None:
    with Reading(f"{folder} is of a model of another shape", advice="expected the one that is given"):
        load_model(model, folder / "model.safetensors")


def _split(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON values; each tensor goes into ``tensors``, and the name of its place stands for it."""
    if isinstance(tree, Tensor):
        tensors[name] = tree.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {str(key): _split(value, f"{name}.{key}", tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_split(value, f"{name}.{index}", tensors) for index, value in enumerate(tree)]
    assert tree is None or isinstance(tree, bool | int | float | str), f"{name} is a {type(tree).__name__}"
    return tree


def _join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """What `_split` was given."""
    if isinstance(tree, dict):
        if tree.keys() == {"tensor"}:
            return tensors[tree["tensor"]]
        return {key: _join(value, tensors) for key, value in tree.items()}
    return [_join(value, tensors) for value in tree] if isinstance(tree, list) else tree
