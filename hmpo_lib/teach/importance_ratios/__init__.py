"""Notebook 03: four ratios of an answer, simulated and recorded."""

from hmpo_lib.teach.importance_ratios import exercises as exercises
from hmpo_lib.teach.importance_ratios.answer_panel import answer_explorer
from hmpo_lib.teach.importance_ratios.divergence_panel import divergence_explorer
from hmpo_lib.teach.importance_ratios.four_ratios_panel import four_ratios_explorer
from hmpo_lib.teach.importance_ratios.length_panel import length_explorer
from hmpo_lib.teach.importance_ratios.recorded_panel import recorded_explorer

__all__ = ["answer_explorer", "divergence_explorer", "four_ratios_explorer", "length_explorer", "recorded_explorer"]
