"""Panels, predictions, live runs and figures for the notebooks."""

from hmpo_lib.teach.explorers import power_mean_explorer, start_panel
from hmpo_lib.teach.live import LiveRun, fast_mode
from hmpo_lib.teach.panels import Panel, p_label, p_slider, slider
from hmpo_lib.teach.plotting import MEAN_STYLES, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.predictions import predict
from hmpo_lib.teach.pushes import push_explorer

__all__ = [
    "MEAN_STYLES",
    "Canvas",
    "LiveRun",
    "Panel",
    "fast_mode",
    "label_ticks",
    "p_label",
    "p_slider",
    "power_mean_explorer",
    "predict",
    "push_explorer",
    "slider",
    "start_panel",
    "tidy_axes",
]
