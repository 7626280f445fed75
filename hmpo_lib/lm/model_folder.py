"""What may lie in a model's folder: a config that makes a model of its weights' size, and safetensors beside it.

transformers would also open a pickle that an index of weights names, follow a path out of the folder, look for a kernel
on the hub that a config asks for, and draw weights that are missing at random.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hmpo_lib.lm.durable import CHECKSUM_FILE, damage
from hmpo_lib.lm.reading import Reading, read_object, require_file, require_plain_path

_ADVICE = "restore the file, or give another model"
_ONE_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
# What is fetched of a model on the hub; never a pickle, and no code.
_FETCHED = ["*.json", "*.jinja", "*.txt", "*.model", "model*.safetensors"]
# Ours to choose, and code that is not ours.
_IGNORED = re.compile(r"_?(?:attn|experts)_implementation\w*|auto_map|transformers_weights")
# A number of modules, each of which is made one by one.
_COUNT = re.compile(r"num_\w+|n_layers?|n_heads?|\w+_layers")
_MOST = 10_000
_SHOWN = 3


def local_folder(path: str | Path) -> Path:
    """The folder of a model, checked: fetched first if it is the name of one on the hub.

    Raises:
        FileNotFoundError: nothing of that name.
        ValueError: files in it that are no regular ones, or not as they were written; an adapter.
    """
    require_plain_path(path)
    folder = Path(path)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(str(path), allow_patterns=_FETCHED))
        except (OSError, ValueError) as error:  # no network, no such name; no name at all, such as a path
            raise FileNotFoundError(
                f"no model that can be read at {path}: expected a folder of save_pretrained with weights in "
                "safetensors, or the name of a model on the hub and a network to fetch it."
            ) from error
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"no model in {path}: expected a config.json there; give a folder of save_pretrained.")
    for file in folder.iterdir():
        if not file.is_dir():
            require_file(file, advice="take it out of the model's folder")
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{path} holds an adapter: expected a whole model; merge it into its base model and save that."
        )
    if (folder / CHECKSUM_FILE).exists() and (fault := damage(folder, ("config.json",))):
        raise ValueError(f"{fault}: restore it, or remove {folder / CHECKSUM_FILE} if you meant to change it.")
    return folder


def read_config(folder: Path) -> PreTrainedConfig:
    """The model's configuration, without what chooses code to run.

    Raises:
        ValueError: it is none of transformers', or it makes no model.
    """
    path = folder / "config.json"
    values = read_object(path, advice=_ADVICE)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(
            f"the model in {folder} is of type {kind!r:.80}: expected one that transformers has, such as llama, qwen3 "
            "or gpt2; code that comes with a model is never run here."
        )
    if values.get("quantization_config") is not None:
        raise ValueError(f"the model in {folder} is quantized: expected float weights; give the one it was made from.")
    for name, value in _numbers(values):
        if _COUNT.fullmatch(name) and value > _MOST:
            raise ValueError(f"{name} in {path} is {value}: expected at most {_MOST}; {_ADVICE}.")
    with Reading(f"{path} makes no model", advice=_ADVICE):
        config = CONFIG_MAPPING[kind].from_dict(_without(values, _IGNORED))
    if getattr(config, "num_hidden_layers", 1) < 1:
        raise ValueError(
            f"{path} describes a model of {config.num_hidden_layers} layers: expected 1 or more; {_ADVICE}."
        )
    return config


def require_weights(folder: Path, config: PreTrainedConfig) -> None:
    """Refuses a folder without weights, with others than safetensors, or with far fewer than the config describes.

    Raises:
        FileNotFoundError: no weights.
        ValueError: what is none, or too few; a config that makes no model.
    """
    held, path = _weights_held(folder), folder / "config.json"
    # On this device there are shapes alone: nothing is allocated for a size that is a mistake.
    with Reading(f"{path} makes no model", advice=_ADVICE), torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    described = sum(weight.numel() for weight in skeleton.parameters())
    if described > 2 * held + 1_000_000:
        raise ValueError(f"{path} describes {described:,} weights, and {folder} holds {held:,}: {_ADVICE}.")


def require_whole(model: PreTrainedModel, loading: Mapping[str, Any], folder: Path) -> None:
    """Refuses a model of which weights were missing or did not fit, and so were drawn at random.

    Args:
        model: what was loaded.
        loading: the ``output_loading_info`` of ``from_pretrained``.
        folder: where it lies, for the message.

    Raises:
        ValueError: with the first few names.
    """
    own = {_pattern(name) for name, _ in model.named_parameters()}
    faults = {
        "are missing": sorted(loading["missing_keys"]),
        "have another shape than config.json says": sorted(str(key[0]) for key in loading["mismatched_keys"]),
        # Weights of other kinds, such as those of a picture's encoder, are left out and not missed.
        "are more than config.json says": sorted(key for key in loading["unexpected_keys"] if _pattern(key) in own),
        "could not be read": list(loading["error_msgs"]),
    }
    for fault, names in faults.items():
        if names:
            shown = f"{', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
            raise ValueError(f"weights in {folder} {fault} ({len(names)}: {shown:.300}): {_ADVICE}.")
    ends = getattr(model.generation_config, "eos_token_id", None)
    if not all(isinstance(end, int) for end in (ends if isinstance(ends, list) else [ends or 0])):
        raise ValueError(
            f"eos_token_id in {folder / 'generation_config.json'} is {ends!r:.80}: expected ids; {_ADVICE}."
        )


def _weights_held(folder: Path) -> int:
    """How many numbers the folder's safetensors hold, once it is clear that they and nothing else would be opened."""
    names = [_ONE_FILE]
    if not (folder / _ONE_FILE).exists():
        if not (folder / _INDEX).exists():
            raise FileNotFoundError(
                f"no weights in {folder}: expected {_ONE_FILE} or {_INDEX} (pickles are never opened); save the model "
                "with save_pretrained."
            )
        parts = read_object(folder / _INDEX, advice=_ADVICE).get("weight_map")
        if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
            raise ValueError(f"{folder / _INDEX} has no weight_map of names to files: {_ADVICE}.")
        names = sorted(set(parts.values()))
    held = 0
    for name in names:
        if not re.fullmatch(r"[^/\\\0]+\.safetensors", name):
            raise ValueError(
                f"{folder / _INDEX} names {name!r:.80}: expected files in its folder that end in .safetensors."
            )
        require_file(folder / name, advice=_ADVICE)
        with Reading(f"{folder / name} is no safetensors file", advice=_ADVICE), safe_open(folder / name, "pt") as file:
            held += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    return held


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield name, value


def _without(values: dict[str, Any], names: re.Pattern[str]) -> dict[str, Any]:
    """The object without keys of these names, at any depth."""
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in values.items()
        if not names.fullmatch(name)
    }


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "N", name)
