"""The optional page on clips that need care: biases, shared keys, and what else scales logits."""

from hmpo_lib.teach.clips_that_need_care.clip_panel import clip_explorer
from hmpo_lib.teach.clips_that_need_care.heads_drawing import heads_drawing

__all__ = ["clip_explorer", "heads_drawing"]
