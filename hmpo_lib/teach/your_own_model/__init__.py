"""Notebook 10: the same loop on a model and a task of your own."""

from hmpo_lib.teach.your_own_model import exercises as exercises
from hmpo_lib.teach.your_own_model.transfer_panel import Exam, transfer_panel

__all__ = ["Exam", "transfer_panel"]
