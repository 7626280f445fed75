"""Notebook 07: Muon's polynomial, hot heads, and the clip that cools them."""

from hmpo_lib.teach.muon_and_qk_clip import exercises as exercises
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import attention_entropies, threshold_label
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_panel import hot_heads_explorer, hot_heads_live
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import RATES, THRESHOLDS, load_hot_traces
from hmpo_lib.teach.muon_and_qk_clip.newton_schulz_panel import newton_schulz_explorer, polynomial
from hmpo_lib.teach.muon_and_qk_clip.rescale_panel import rescale_explorer

__all__ = [
    "RATES",
    "THRESHOLDS",
    "attention_entropies",
    "hot_heads_explorer",
    "hot_heads_live",
    "load_hot_traces",
    "newton_schulz_explorer",
    "polynomial",
    "rescale_explorer",
    "threshold_label",
]
