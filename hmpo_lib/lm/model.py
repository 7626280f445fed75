"""The language model: a character tokenizer, a tiny Llama, and loading with checks. All classes are transformers' own.

Another causal language model with an attention cache can take its place: `load_model` opens a folder or a hub name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from hmpo_lib.lm.durable import damage, write_checksums
from hmpo_lib.lm.model_folder import local_folder, read_config, require_weights, require_whole
from hmpo_lib.lm.reading import Reading
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
        FileNotFoundError: nothing of that name, or no model in the folder.
        ValueError: a file that cannot be read, weights that are missing or do not fit, a model that needs code of its
            own or is quantized; a tokenizer without an eos, or whose pad is its eos (with one that would do); no such
            token.
    """
    folder, advice = local_folder(path), "restore its files, or give another model"
    with _quiet_transformers():
        config = read_config(folder)
        own = {"config": config, "trust_remote_code": False, "local_files_only": True}
        with Reading(f"the tokenizer in {folder} cannot be read", advice=advice):
            tokenizer = AutoTokenizer.from_pretrained(folder, **own)
            # Some only fail in use: so a word of its own is tried.
            special = set(tokenizer.all_special_ids)
            words = list(islice((index for index in range(len(tokenizer)) if index not in special), 4))
            if not words:
                raise ValueError("it knows no word")
            tokenizer.decode(tokenizer(tokenizer.decode(words))["input_ids"], skip_special_tokens=True)
        if pad_token is not None:
            if pad_token not in tokenizer.get_vocab():
                raise ValueError(
                    f"the pad token {pad_token!r} is not in the vocabulary: expected a token that the model knows."
                )
            tokenizer.pad_token = pad_token
        check_special_tokens(tokenizer)
        require_weights(folder, config)
        with Reading(f"the model in {folder} cannot be read", advice=advice):
            model, loading = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below, with all else that does not fit
                **own,
            )
    require_whole(model.eval(), loading, folder)
    known = model.get_input_embeddings().num_embeddings
    for name in ("eos", "pad"):
        if (index := getattr(tokenizer, f"{name}_token_id")) >= known:
            raise ValueError(
                f"the tokenizer's {name} has the id {index}, and the model in {folder} knows {known} tokens: expected "
                "one of them; restore the tokenizer's files, or resize the model's embeddings and save both."
            )
    with Reading(f"the model in {folder} cannot be used", advice=advice), torch.no_grad():
        model(torch.tensor([words]))
    return model, tokenizer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Writes a folder (safetensors) that `load_model`, AutoModelForCausalLM and AutoTokenizer open, with checksums."""
    with _quiet_transformers():
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    write_checksums(path)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Bars for a model of 1.7 MB would be the only stderr of a notebook, and what is wrong is said in an error."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


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


def make_model(seed: int, *, layers: int = 2, width: int = 128, heads: int = 4) -> LlamaForCausalLM:
    """A Llama for sums, as shipped of 2 layers, width 128 and 4 heads: 0.43 million weights, drawn from ``seed``.

    >>> sum(weight.numel() for weight in make_model(0).parameters())
    429184
    """
    config = LlamaConfig(
        vocab_size=len(CHARACTERS) + 3,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
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
