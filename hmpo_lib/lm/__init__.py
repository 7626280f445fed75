"""The language model that fits a laptop: its task, sampling, fine-tuning. Works on causal LMs of transformers."""

from hmpo_lib.lm.checkpoints import Checkpoints
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.logprobs import TokenStatistics, token_logprobs, token_statistics
from hmpo_lib.lm.model import load_base_model, load_model
from hmpo_lib.lm.records import StepRecord, rollout_row
from hmpo_lib.lm.rollouts import Rollout, sample_completions
from hmpo_lib.lm.training import fine_tune

__all__ = [
    "Checkpoints",
    "FineTuneConfig",
    "Rollout",
    "StepRecord",
    "TokenStatistics",
    "fine_tune",
    "load_base_model",
    "load_model",
    "rollout_row",
    "sample_completions",
    "token_logprobs",
    "token_statistics",
]
