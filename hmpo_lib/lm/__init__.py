"""The language model that fits a laptop: its task, sampling, fine-tuning. Works on causal LMs of transformers."""

from hmpo_lib.lm.answers import extract_number
from hmpo_lib.lm.checkpoints import Checkpoints
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.datasets import gym_task, question_file
from hmpo_lib.lm.logprobs import TokenStatistics, token_logprobs, token_statistics
from hmpo_lib.lm.model import load_base_model, load_model, make_model, make_tokenizer, save_model
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.lm.records import StepRecord, rollout_row
from hmpo_lib.lm.rollouts import Rollout, sample_completions
from hmpo_lib.lm.tasks import SUMS, is_worked, reward_correct, sample_questions
from hmpo_lib.lm.training import fine_tune

__all__ = [
    "SUMS",
    "Checkpoints",
    "FineTuneConfig",
    "Rollout",
    "StepRecord",
    "TokenStatistics",
    "extract_number",
    "fine_tune",
    "gym_task",
    "is_worked",
    "load_base_model",
    "load_model",
    "make_model",
    "make_tokenizer",
    "pretraining_batch",
    "question_file",
    "reward_correct",
    "rollout_row",
    "sample_completions",
    "sample_questions",
    "save_model",
    "token_logprobs",
    "token_statistics",
]
