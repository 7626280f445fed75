"""Notebook 00: a real answer, one slider, one verdict."""

from hmpo_lib.teach.shared.real_answer import real_answer
from hmpo_lib.teach.start_here.start_panel import start_panel

__all__ = ["real_answer", "start_panel"]
