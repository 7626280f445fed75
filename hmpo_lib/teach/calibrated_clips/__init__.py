"""The optional page on calibrated clips and the cube of methods."""

from hmpo_lib.teach.calibrated_clips import exercises as exercises
from hmpo_lib.teach.calibrated_clips.blocked_panel import blocked_explorer
from hmpo_lib.teach.calibrated_clips.method_cube_drawing import method_cube
from hmpo_lib.teach.calibrated_clips.share_drawing import cosines_over_share

__all__ = ["blocked_explorer", "cosines_over_share", "method_cube"]
