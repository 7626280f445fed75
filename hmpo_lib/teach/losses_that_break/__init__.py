"""The optional page on losses that break and on KL penalties."""

from hmpo_lib.teach.losses_that_break.kl_panel import kl_explorer

__all__ = ["kl_explorer"]
