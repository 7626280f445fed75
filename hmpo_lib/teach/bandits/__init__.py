"""Notebook 05: worlds in which every number can be computed exactly."""

from hmpo_lib.teach.bandits import exercises as exercises
from hmpo_lib.teach.bandits.bandit_recording import (
    CURVE_STEPS,
    EXPONENTS,
    LENGTHS,
    RATE_STALENESS,
    RATES,
    STALENESS,
    best_rates,
    bias_of,
    cosine_of,
    load_bandit_traces,
    mean_intervals,
    stability_frontier,
)
from hmpo_lib.teach.bandits.direction_panel import STYLES, direction_explorer
from hmpo_lib.teach.bandits.flip_panel import flip_explorer
from hmpo_lib.teach.bandits.learning_live import learning_live
from hmpo_lib.teach.bandits.rates_panel import BEST, rates_explorer
from hmpo_lib.teach.bandits.risk_experiment import EVENTS, event_world, learn_risk, std_of_the_others
from hmpo_lib.teach.bandits.risk_panel import risk_explorer
from hmpo_lib.teach.bandits.risk_recording import (
    DIVISIONS,
    SIZES,
    STALE_EXPONENTS,
    STALE_SIZES,
    load_risk_traces,
)
from hmpo_lib.teach.bandits.worlds_experiment import KINDS, log_ratio_spread, random_world, signed_gradients, take_steps

__all__ = [
    "BEST",
    "CURVE_STEPS",
    "DIVISIONS",
    "EVENTS",
    "EXPONENTS",
    "KINDS",
    "LENGTHS",
    "RATES",
    "RATE_STALENESS",
    "SIZES",
    "STALENESS",
    "STALE_EXPONENTS",
    "STALE_SIZES",
    "STYLES",
    "best_rates",
    "bias_of",
    "cosine_of",
    "direction_explorer",
    "event_world",
    "flip_explorer",
    "learn_risk",
    "learning_live",
    "load_bandit_traces",
    "load_risk_traces",
    "log_ratio_spread",
    "mean_intervals",
    "random_world",
    "rates_explorer",
    "risk_explorer",
    "signed_gradients",
    "stability_frontier",
    "std_of_the_others",
    "take_steps",
]
