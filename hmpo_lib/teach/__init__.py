"""What every notebook uses: panels, predictions, live runs, checks.

What belongs to one notebook is in the package of its name; what two or more draw with is in `shared`.
"""

from hmpo_lib.teach.checks import check
from hmpo_lib.teach.live import LiveRun, fast_mode, sized
from hmpo_lib.teach.panels import Panel, Still, p_label, p_slider, slider
from hmpo_lib.teach.plotting import MEAN_STYLES, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.predictions import predict
from hmpo_lib.teach.shared.recorded_ratios import load_recorded_ratios
from hmpo_lib.teach.tokens import draw_tokens, shaded_tokens, stacked

__all__ = [
    "MEAN_STYLES",
    "Canvas",
    "LiveRun",
    "Panel",
    "Still",
    "check",
    "draw_tokens",
    "fast_mode",
    "label_ticks",
    "load_recorded_ratios",
    "p_label",
    "p_slider",
    "predict",
    "shaded_tokens",
    "sized",
    "slider",
    "stacked",
    "tidy_axes",
]
