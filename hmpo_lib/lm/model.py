"""The language model: a character tokenizer, a tiny Llama, and loading with checks. All classes are transformers' own.

Another causal language model with an attention cache can take its place: `load_model` opens a folder or a hub name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from hmpo_lib.lm.durable import damage, write_checksums
from hmpo_lib.lm.tasks import CHARACTERS

_PACKAGE = Path(__file__).resolve().parent.parent


def base_model_path() -> Path:
    """Where the shipped model lies: beside the package once installed, in ``data/`` in a checkout."""
    installed = _PACKAGE / "base_model"
    return installed if installed.is_dir() else _PACKAGE.parent / "data" / "base_model"


def load_base_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The shipped model, which answers sums about half of the time, and its tokenizer; in eval mode, on the CPU.

    Raises:
        FileNotFoundError: no model is there.
        ValueError: a file is not the one that was shipped.
    """
    path = base_model_path()
    if not path.is_dir():
        raise FileNotFoundError(
            f"the base model is missing: expected {path}; restore the folder from the repository, or load a model of "
            "your own."
        )
    if fault := damage(path, ("model.safetensors",)):
        raise ValueError(
            f"the base model is not the one that was shipped: {fault}; restore {path} from the repository."
        )
    return load_model(path)


def load_model(path: str | Path, *, pad_token: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, float32, in eval mode: dropout would make every ratio differ from 1.

    Prompts reach the model as they are: no chat template is applied. Code that comes with a model is never run, and
    weights are read from safetensors only, never from a pickle.

    Args:
        path: a folder made by ``save_pretrained``, or the name of a model on the hub (needs a network).
        pad_token: a token of its vocabulary that never occurs in text; None: its own pad, which must not be its eos.

    Raises:
        FileNotFoundError: the folder has no model in it.
        ValueError: the tokenizer's pad is its eos (with one that would do); no such token; the model needs code of its
            own, beyond transformers.
    """
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        raise FileNotFoundError(f"no model in {path}: expected a config.json there; give a folder of save_pretrained.")
    try:
        with _without_progress_bars():
            _refuse_code(path)
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            if pad_token is not None:
                if pad_token not in tokenizer.get_vocab():
                    raise ValueError(
                        f"the pad token {pad_token!r} is not in the vocabulary: expected a token that the model knows."
                    )
                tokenizer.pad_token = pad_token
            check_special_tokens(tokenizer)
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
            )
    except (OSError, SafetensorError) as error:
        raise FileNotFoundError(
            f"no model that can be read at {path}: expected a folder of save_pretrained with weights in safetensors "
            "(pickles are never opened), or the name of a model on the hub and a network to fetch it."
        ) from error
    return model.eval(), tokenizer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Writes a folder (safetensors) that `load_model`, AutoModelForCausalLM and AutoTokenizer open, with checksums."""
    with _without_progress_bars():
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    write_checksums(path)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers' bars for a model of 1.7 MB would be the only stderr of a notebook."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _refuse_code(path: str | Path) -> None:
    """Refuses a model of a type that transformers does not have, which would ask on stdin whether to run its code."""
    config, _ = PreTrainedConfig.get_config_dict(path)
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(
            f"the model in {path} is of type {config.get('model_type')!r} and brings code of its own, which is never "
            "run here: expected a type that transformers has, such as llama, qwen3 or gpt2."
        )


def check_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a tokenizer without eos, or whose pad is its eos: a mask by pad would lose the end of every answer."""
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no eos token: expected one, so that an answer can end; set eos_token.")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        choice = _possible_pad(tokenizer)
        advice = "add one to the tokenizer and call model.resize_token_embeddings"
        if choice is not None:
            advice = f"{choice!r} would do: load_model(..., pad_token={choice!r}), or --pad-token '{choice}'"
        raise ValueError(
            f"the tokenizer's pad token is {tokenizer.pad_token!r} and its eos {tokenizer.eos_token!r}: expected a "
            f"pad of its own, a token that never occurs in text; {advice}."
        )


def _possible_pad(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A token that is made to never occur in text and marks nothing else, if the tokenizer has one."""
    taken = {tokenizer.eos_token, tokenizer.bos_token}
    reserved = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content not in taken]
    for word in ("pad", "reserved", "unused", "unk"):
        for token in reserved:
            if word in token.lower():
                return token
    return None


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; pad, bos and eos apart; bos is put before every prompt."""
    special = ["<pad>", "<bos>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_model(seed: int) -> LlamaForCausalLM:
    """A Llama of 2 layers, width 128 and 4 heads, 0.43 million parameters, with weights drawn from ``seed``."""
    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 3,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    # transformers draws from torch's global generator: fork it, so that making a model changes nothing else.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
