"""hmpo: what the mean of the importance ratios does to policy optimization.

The core, a screen of names: power means in log space and their iterations, what a completion's ratios say, the policy
losses built on them, and the table of methods.
Needs torch only. The language model lives in `hmpo_lib.lm`, the notebooks' panels in `hmpo_lib.teach`.
"""

from hmpo_lib.advantages import AdvantageScale, Baseline, group_advantages
from hmpo_lib.bandit_learning import learn
from hmpo_lib.bandits import (
    bernoulli_bandit,
    expected_reward,
    gradient_statistics,
    sequence_bandit,
    sequence_logprobs,
    sequence_probabilities,
)
from hmpo_lib.evaluation import bootstrap_interval, student_interval
from hmpo_lib.iterations import MeanIteration, arithmetic_geometric_mean, arithmetic_harmonic_mean
from hmpo_lib.kl import Estimator, kl_penalty
from hmpo_lib.losses import PolicyLoss, batch_mean, policy_loss, policy_surrogates
from hmpo_lib.means import log_power_mean, power_mean, power_mean_weights
from hmpo_lib.methods import METHODS, Method
from hmpo_lib.objectives import Clip, LengthWeight, Objective
from hmpo_lib.ratios import (
    SequenceLogRatios,
    effective_sample_size,
    log_arithmetic_harmonic_mean,
    renyi_divergence,
    sequence_log_ratios,
)
from hmpo_lib.schedules import LearnableExponent, PSchedule, pessimistic_schedule

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "AdvantageScale",
    "Baseline",
    "Clip",
    "Estimator",
    "LearnableExponent",
    "LengthWeight",
    "MeanIteration",
    "Method",
    "Objective",
    "PSchedule",
    "PolicyLoss",
    "SequenceLogRatios",
    "arithmetic_geometric_mean",
    "arithmetic_harmonic_mean",
    "batch_mean",
    "bernoulli_bandit",
    "bootstrap_interval",
    "effective_sample_size",
    "expected_reward",
    "gradient_statistics",
    "group_advantages",
    "kl_penalty",
    "learn",
    "log_arithmetic_harmonic_mean",
    "log_power_mean",
    "pessimistic_schedule",
    "policy_loss",
    "policy_surrogates",
    "power_mean",
    "power_mean_weights",
    "renyi_divergence",
    "sequence_bandit",
    "sequence_log_ratios",
    "sequence_logprobs",
    "sequence_probabilities",
    "student_interval",
]
