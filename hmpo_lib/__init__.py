"""hmpo: what the mean of the importance ratios does to policy optimization.

The core, a screen of names: power means in log space, the policy losses built on them, and the table of methods.
Needs torch only. The language model lives in `hmpo_lib.lm`, the notebooks' panels in `hmpo_lib.teach`.
"""

from hmpo_lib.advantages import group_advantages
from hmpo_lib.losses import Objective, PolicyLoss, policy_loss
from hmpo_lib.means import log_power_mean, power_mean, power_mean_weights
from hmpo_lib.methods import METHODS, Method

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "Method",
    "Objective",
    "PolicyLoss",
    "group_advantages",
    "log_power_mean",
    "policy_loss",
    "power_mean",
    "power_mean_weights",
]
