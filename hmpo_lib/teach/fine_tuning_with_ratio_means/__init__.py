"""Notebook 08: the run, live and replayed."""

from hmpo_lib.teach.fine_tuning_with_ratio_means import exercises as exercises
from hmpo_lib.teach.fine_tuning_with_ratio_means.before_after_table import BeforeAfter
from hmpo_lib.teach.fine_tuning_with_ratio_means.comparison_live import comparison_live
from hmpo_lib.teach.fine_tuning_with_ratio_means.exponents_recording import CLIPS, exponent_config, load_exponent_runs
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_controls import FineTuningControls
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_live import fine_tuning_live, worked_share
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_panel import length_weight_explorer
from hmpo_lib.teach.fine_tuning_with_ratio_means.length_recording import load_length_runs
from hmpo_lib.teach.fine_tuning_with_ratio_means.loop_drawing import the_loop
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_experiment import means_by_sign, most_moved
from hmpo_lib.teach.fine_tuning_with_ratio_means.replay_panel import replay_explorer

__all__ = [
    "CLIPS",
    "BeforeAfter",
    "FineTuningControls",
    "comparison_live",
    "exponent_config",
    "fine_tuning_live",
    "length_weight_explorer",
    "load_exponent_runs",
    "load_length_runs",
    "means_by_sign",
    "most_moved",
    "replay_explorer",
    "the_loop",
    "worked_share",
]
