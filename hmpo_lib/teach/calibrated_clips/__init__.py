"""The optional page on calibrated clips and the cube of methods."""

from hmpo_lib.teach.calibrated_clips.method_cube_drawing import method_cube

__all__ = ["method_cube"]
