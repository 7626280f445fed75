"""Notebook 05: worlds in which every number can be computed exactly."""

from hmpo_lib.teach.bandits import exercises as exercises
from hmpo_lib.teach.bandits.bandit_panel import bandit_explorer
from hmpo_lib.teach.bandits.bandit_recording import (
    CURVE_STEPS,
    EXPONENTS,
    LENGTHS,
    RATE_STALENESS,
    STALENESS,
    load_bandit_traces,
    mean_intervals,
    stability_frontier,
)
from hmpo_lib.teach.bandits.flip_panel import flip_explorer
from hmpo_lib.teach.bandits.learning_live import learning_live
from hmpo_lib.teach.bandits.stability_panel import stability_explorer
from hmpo_lib.teach.bandits.worlds_experiment import (
    KINDS,
    log_ratio_variance,
    random_world,
    signed_gradients,
    take_steps,
)

__all__ = [
    "CURVE_STEPS",
    "EXPONENTS",
    "KINDS",
    "LENGTHS",
    "RATE_STALENESS",
    "STALENESS",
    "bandit_explorer",
    "flip_explorer",
    "learning_live",
    "load_bandit_traces",
    "log_ratio_variance",
    "mean_intervals",
    "random_world",
    "signed_gradients",
    "stability_explorer",
    "stability_frontier",
    "take_steps",
]
