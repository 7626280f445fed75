"""The language model that fits a laptop: its task, sampling, fine-tuning. Works on causal LMs of transformers."""

from hmpo_lib.lm.model import load_base_model, load_model
from hmpo_lib.lm.records import StepRecord, rollout_row
from hmpo_lib.lm.rollouts import Rollout, sample_completions, token_logprobs
from hmpo_lib.lm.training import FineTuneConfig, fine_tune

__all__ = [
    "FineTuneConfig",
    "Rollout",
    "StepRecord",
    "fine_tune",
    "load_base_model",
    "load_model",
    "rollout_row",
    "sample_completions",
    "token_logprobs",
]
