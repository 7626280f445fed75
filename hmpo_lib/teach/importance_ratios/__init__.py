"""Notebook 03: four ratios of an answer, simulated and recorded."""

from hmpo_lib.teach.importance_ratios import exercises as exercises
from hmpo_lib.teach.importance_ratios.divergence_panel import divergence_explorer
from hmpo_lib.teach.importance_ratios.four_ratios_panel import four_ratios_explorer
from hmpo_lib.teach.importance_ratios.recorded_panel import recorded_explorer
from hmpo_lib.teach.importance_ratios.simulated_panels import length_explorer, weights_explorer
from hmpo_lib.teach.shared.recorded_ratios import load_recorded_ratios

__all__ = [
    "divergence_explorer",
    "four_ratios_explorer",
    "length_explorer",
    "load_recorded_ratios",
    "recorded_explorer",
    "weights_explorer",
]
