"""Notebook 04: what the losses push, and what their clips block."""

from hmpo_lib.teach.policy_losses import exercises as exercises
from hmpo_lib.teach.policy_losses.answer_pushes_panel import answer_pushes_explorer
from hmpo_lib.teach.policy_losses.exploding_panel import exploding_explorer
from hmpo_lib.teach.policy_losses.length_range_panel import range_by_length
from hmpo_lib.teach.policy_losses.ppo_drawing import clipped_surrogate
from hmpo_lib.teach.policy_losses.range_drawing import range_picture
from hmpo_lib.teach.policy_losses.token_strip_panel import token_strip_explorer

__all__ = [
    "answer_pushes_explorer",
    "clipped_surrogate",
    "exploding_explorer",
    "range_by_length",
    "range_picture",
    "token_strip_explorer",
]
