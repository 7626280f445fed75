"""Importance ratios recorded while the shipped model was fine-tuned: what notebooks 03 and 04 look at.

data/README.md says how they were made (tools/record_ratios.py). Needs no language model.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hmpo_lib.teach.recordings import load_recording, recording_path

RECORDED = recording_path("recorded_ratios.safetensors")

END = "⏎"  # how an answer's end is shown: the token eos
SPECIAL = "□"

STAGES = ("start of training", "after 40 rollouts")


class RatioSample(NamedTuple):
    """Recorded completions at one staleness, groups of 8 answers to the same prompt one after the other.

    Attributes:
        log_ratios: ``[batch, time]``, d_t, float64; 0 where masked.
        completion_mask: ``[batch, time]``, bool.
        rewards, advantages: ``[batch]``; 1 for the right number, and the group's advantages.
        seeds: ``[batch]``, which of the training runs.
        old_logprobs: ``[batch, time]``, under the policy that sampled, float64; 0 where masked.
        characters: ``[batch, time]``, ASCII codes; 0 at an answer's end and where masked, 1 for other special tokens.
        prompts: ``[batch, 15]``, ASCII codes, 0 after the end.
    """

    log_ratios: Tensor
    completion_mask: Tensor
    rewards: Tensor
    advantages: Tensor
    seeds: Tensor
    old_logprobs: Tensor
    characters: Tensor
    prompts: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, ``[batch]``."""
        return self.completion_mask.sum(dim=1)

    @property
    def tokens(self) -> Tensor:
        """The log-ratios of all tokens, ``[tokens]``."""
        return self.log_ratios[self.completion_mask]

    def prompt(self, row: int) -> str:
        """The question that a completion answers, such as ``7+12+5=``."""
        return bytes(self.prompts[row].tolist()).decode().rstrip("\0")

    def token_texts(self, row: int) -> list[str]:
        """A completion token by token: characters, `END` for its end, and `SPECIAL` for a pad or bos in the middle."""
        codes = self.characters[row][self.completion_mask[row]].tolist()
        return [{0: END, 1: SPECIAL}.get(code, chr(code)) for code in codes]

    def of_length(self, low: int, high: int) -> "RatioSample":
        """The completions of ``low`` to ``high`` tokens alone."""
        return self.select((self.lengths >= low) & (self.lengths <= high))

    def select(self, rows: Tensor) -> "RatioSample":
        """The completions of these rows alone: indices, or a boolean for each."""
        return RatioSample(*(field[rows] for field in self))


class RecordedRatios(NamedTuple):
    """The whole recording; `at` gives what one step of training meets.

    Attributes:
        staleness: ``[recorded]``, optimizer steps since the answers were sampled.
        log_ratios: ``[tokens, recorded]``, completions one after the other.
        old_logprobs, characters: ``[tokens]``.
        prompts: ``[completions, 15]``.
        lengths, rewards, advantages, seeds, stages: ``[completions]``.
    """

    staleness: Tensor
    log_ratios: Tensor
    lengths: Tensor
    rewards: Tensor
    advantages: Tensor
    seeds: Tensor
    stages: Tensor
    old_logprobs: Tensor
    characters: Tensor
    prompts: Tensor

    def at(self, stage: str, staleness: int) -> RatioSample:
        """The completions sampled at a stage of training, after so many further optimizer steps.

        Raises:
            ValueError: the stage or staleness was not recorded.
        """
        recorded = self.staleness.tolist()
        if stage not in STAGES or staleness not in recorded:
            raise ValueError(
                f"stage {stage!r} with staleness {staleness} was not recorded: expected one of {', '.join(STAGES)}, "
                f"and one of {', '.join(map(str, recorded))}."
            )
        mask = torch.arange(int(self.lengths.max())) < self.lengths.long().unsqueeze(1)

        def by_completion(tokens: Tensor) -> Tensor:
            padded = torch.zeros(mask.shape, dtype=tokens.dtype)
            padded[mask] = tokens
            return padded

        rows = self.stages == STAGES.index(stage)
        return RatioSample(
            by_completion(self.log_ratios[:, recorded.index(staleness)].double())[rows],
            mask[rows],
            self.rewards[rows].double(),
            self.advantages[rows].double(),
            self.seeds[rows].long(),
            by_completion(self.old_logprobs.double())[rows],
            by_completion(self.characters)[rows],
            self.prompts[rows],
        )


def load_recorded_ratios(path: str | Path = RECORDED) -> RecordedRatios:
    """The recorded ratios of the repository, or of another file that tools/record_ratios.py wrote.

    Raises:
        FileNotFoundError: the file is not there.

    >>> load_recorded_ratios().at("after 40 rollouts", 4).log_ratios.shape
    torch.Size([1024, 40])
    """
    return RecordedRatios(**load_recording(path))
