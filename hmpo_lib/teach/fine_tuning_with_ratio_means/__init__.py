"""Notebook 08: the run, live and replayed."""

from hmpo_lib.teach.fine_tuning_with_ratio_means import exercises as exercises
from hmpo_lib.teach.fine_tuning_with_ratio_means.before_after_table import BeforeAfter
from hmpo_lib.teach.fine_tuning_with_ratio_means.compass_experiment import (
    EXPONENTS,
    STALENESS,
    gradient_compass,
    load_compass,
    turning_rates,
)
from hmpo_lib.teach.fine_tuning_with_ratio_means.compass_panel import compass_explorer
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_controls import FineTuningControls
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import fine_tuning_live, worked_share
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_panel import length_weight_explorer
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_recording import load_length_runs
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_experiment import means_by_sign, most_moved
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_panel import replay_explorer

__all__ = [
    "EXPONENTS",
    "STALENESS",
    "BeforeAfter",
    "FineTuningControls",
    "compass_explorer",
    "fine_tuning_live",
    "gradient_compass",
    "length_weight_explorer",
    "load_compass",
    "load_length_runs",
    "means_by_sign",
    "most_moved",
    "replay_explorer",
    "turning_rates",
    "worked_share",
]
