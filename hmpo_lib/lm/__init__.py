"""The language model that fits a laptop: its task, sampling, fine-tuning. Works on causal LMs of transformers."""

from hmpo_lib.lm.answers import extract_number, is_same_answer, stated_answer
from hmpo_lib.lm.checkpoints import Checkpoints
from hmpo_lib.lm.config import FineTuneConfig
from hmpo_lib.lm.datasets import gym_task, load_task, question_file
from hmpo_lib.lm.logprobs import TokenStatistics, token_logprobs, token_statistics
from hmpo_lib.lm.model import load_base_model, load_model, make_model, make_tokenizer, save_model
from hmpo_lib.lm.pretrain import pretraining_batch
from hmpo_lib.lm.records import StepRecord, rollout_row
from hmpo_lib.lm.rollouts import Rollout, sample_completions
from hmpo_lib.lm.tasks import (
    MAX_COMPLETION_LENGTH,
    SUMS,
    Question,
    Task,
    final_number,
    is_worked,
    reward_correct,
    sample_prompts,
    sample_questions,
)
from hmpo_lib.lm.training import fine_tune

__all__ = [
    "MAX_COMPLETION_LENGTH",
    "SUMS",
    "Checkpoints",
    "FineTuneConfig",
    "Question",
    "Rollout",
    "StepRecord",
    "Task",
    "TokenStatistics",
    "extract_number",
    "final_number",
    "fine_tune",
    "gym_task",
    "is_same_answer",
    "is_worked",
    "load_base_model",
    "load_model",
    "load_task",
    "make_model",
    "make_tokenizer",
    "pretraining_batch",
    "question_file",
    "reward_correct",
    "rollout_row",
    "sample_completions",
    "sample_prompts",
    "sample_questions",
    "save_model",
    "stated_answer",
    "token_logprobs",
    "token_statistics",
]
