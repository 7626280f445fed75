"""Notebook 04: what the losses push, and what their clips block."""

from hmpo_lib.teach.policy_losses import exercises as exercises
from hmpo_lib.teach.policy_losses.exploding_panel import exploding_explorer
from hmpo_lib.teach.policy_losses.method_cube_drawing import method_cube
from hmpo_lib.teach.policy_losses.token_strip_panel import token_strip_explorer
from hmpo_lib.teach.shared.recorded_ratios import load_recorded_ratios

__all__ = ["exploding_explorer", "load_recorded_ratios", "method_cube", "token_strip_explorer"]
