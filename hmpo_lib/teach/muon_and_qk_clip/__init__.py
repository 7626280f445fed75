"""Notebook 07: Muon's polynomial and its step, hot heads, and the clip that cools them."""

from hmpo_lib.teach.muon_and_qk_clip import exercises as exercises
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_experiment import OPTIMIZERS, attention_entropies, threshold_label
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_panel import (
    clipped_heads_explorer,
    hot_heads_explorer,
    hot_heads_live,
)
from hmpo_lib.teach.muon_and_qk_clip.hot_heads_recording import (
    THRESHOLDS,
    TIMES,
    load_hot_traces,
)
from hmpo_lib.teach.muon_and_qk_clip.newton_schulz_panel import newton_schulz_explorer, polynomial
from hmpo_lib.teach.muon_and_qk_clip.one_head_panel import one_head_explorer
from hmpo_lib.teach.muon_and_qk_clip.per_head_panel import first_step_lengths, per_head_explorer
from hmpo_lib.teach.muon_and_qk_clip.stretch_drawing import the_stretch

__all__ = [
    "OPTIMIZERS",
    "THRESHOLDS",
    "TIMES",
    "attention_entropies",
    "clipped_heads_explorer",
    "first_step_lengths",
    "hot_heads_explorer",
    "hot_heads_live",
    "load_hot_traces",
    "newton_schulz_explorer",
    "one_head_explorer",
    "per_head_explorer",
    "polynomial",
    "the_stretch",
    "threshold_label",
]
