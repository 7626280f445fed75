"""Notebook 02: iterating two means until they meet."""

from hmpo_lib.teach.mean_iterations import exercises as exercises
from hmpo_lib.teach.mean_iterations.balance_panel import balance_explorer
from hmpo_lib.teach.mean_iterations.pincer_animation import pincer_animation
from hmpo_lib.teach.mean_iterations.pincer_panel import pincer_explorer
from hmpo_lib.teach.mean_iterations.square_drawing import rectangles

__all__ = ["balance_explorer", "pincer_animation", "pincer_explorer", "rectangles"]
