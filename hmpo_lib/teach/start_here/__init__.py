"""Notebook 00: one slider, one verdict."""

from hmpo_lib.teach.start_here.start_panel import start_panel

__all__ = ["start_panel"]
