"""The contestants: this library, `generate` of transformers, and TRL's GRPOTrainer, taking turns."""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from hmpo_lib.lm import FineTuneConfig, fine_tune, reward_correct, sample_completions, sample_prompts


class Turn(NamedTuple):
    """What one contestant did in one turn.

    Attributes:
        seconds: by the clock on the wall.
        tokens: completion tokens sampled, eos included.
        updates: optimizer steps.
    """

    seconds: float
    tokens: int
    updates: int = 0


def clock(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compare_sampling(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig
) -> tuple[list[Turn], list[Turn]]:
    """``config.rollouts`` turns of `sample_completions` and of ``generate`` on the same prompts; they begin in turn.

    Both start from strings and end with strings; ours gives the log-probabilities as well.
    """
    prompts = sample_prompts(config.prompts, torch.Generator().manual_seed(config.seed))
    sides = (_sample, _generate)
    turns: tuple[list[Turn], list[Turn]] = ([], [])
    # generate knows the global generator only
    with torch.random.fork_rng(), config.autocast(model.device):
        torch.manual_seed(config.seed)
        for index in range(config.rollouts):
            for side in (index % 2, 1 - index % 2):
                turns[side].append(sides[side](model, tokenizer, prompts, config))
    return turns


def _sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], config: FineTuneConfig
) -> Turn:
    start = clock(model.device)
    rollout = sample_completions(
        model,
        tokenizer,
        prompts,
        group_size=config.group_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
    )
    return Turn(clock(model.device) - start, int(rollout.completion_mask.sum()))


def _generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], config: FineTuneConfig
) -> Turn:
    start = clock(model.device)
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    ids = model.generate(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        do_sample=True,
        temperature=config.temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=config.group_size,
        max_new_tokens=config.max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )[:, encoded["input_ids"].shape[1] :]
    tokenizer.batch_decode(ids, skip_special_tokens=True)
    seconds = clock(model.device) - start
    ends = ids == tokenizer.eos_token_id
    after_end = ends.cumsum(dim=1) - ends.long() > 0
    return Turn(seconds, int((~after_end).sum()))


def our_rollouts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FineTuneConfig, prompts: list[str]
) -> Iterator[Turn]:
    """A turn for each rollout of `fine_tune`: sampling, rewards, log-probabilities, updates."""
    stream = iter(prompts)
    records = fine_tune(model, tokenizer, config, sample_prompts=lambda count, _: list(islice(stream, count)))
    for _ in range(config.rollouts):
        start = clock(model.device)
        steps = list(islice(records, config.minibatches))
        seconds = clock(model.device) - start
        yield Turn(seconds, sum(int(step.completion_mask.sum()) for step in steps), len(steps))


def trl_rollouts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: FineTuneConfig,
    prompts: list[str],
    between: Callable[[], None],
) -> list[Turn]:
    """A turn for each rollout of TRL's GRPOTrainer: sampling, rewards, old log-probabilities, updates.

    Set for speed: everything that it would log, save or show is off, as are recomputing activations and the KL term.
    Its start is not counted. AdamW is the fused one, its default.

    Args:
        model: trained in place.
        tokenizer: its tokenizer.
        config: the sizes; ``epochs`` is 1.
        prompts: of all rollouts.
        between: called after each rollout, outside TRL's time: the other contestant's turn.

    Raises:
        ModuleNotFoundError: TRL is not installed.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    completions = config.prompts * config.group_size
    turns: list[Turn] = []

    def rewards(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        stopwatch.tokens = sum(map(len, completion_ids))
        return [reward_correct(*pair) for pair in zip(prompts, completions, strict=True)]

    stopwatch = _Stopwatch(config.minibatches, turns, between)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore", FutureWarning)  # TRL speaks to transformers in words that are to change
        arguments = GRPOConfig(
            output_dir=folder,
            use_cpu=model.device.type == "cpu",
            bf16=config.dtype == "bfloat16",
            max_steps=config.rollouts * config.minibatches,
            per_device_train_batch_size=completions // config.minibatches,
            steps_per_generation=config.minibatches,
            gradient_accumulation_steps=1,
            num_iterations=1,
            num_generations=config.group_size,
            max_completion_length=config.max_new_tokens,
            temperature=config.temperature,
            loss_type="grpo",
            beta=0.0,
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=config.max_gradient_norm,
            gradient_checkpointing=False,
            shuffle_dataset=False,
            dataloader_pin_memory=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=config.seed,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=rewards,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[stopwatch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return turns


class _Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Times each rollout of a trainer, from the end of the other contestant's turn to the last update."""

    def __init__(self, updates: int, turns: list[Turn], between: Callable[[], None]) -> None:
        self._updates, self._turns, self._between = updates, turns, between
        self._start = 0.0
        self._done = 0
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = clock(args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._updates == 0:
            seconds = clock(args.device) - self._start
            self._turns.append(Turn(seconds, self.tokens, state.global_step - self._done))
            self._done = state.global_step
            self._between()
            self._start = clock(args.device)
