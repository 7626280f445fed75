"""The optional page on effective sample sizes."""

from hmpo_lib.teach.how_many_are_heard import exercises as exercises
from hmpo_lib.teach.how_many_are_heard.weights_panel import weights_explorer

__all__ = ["weights_explorer"]
