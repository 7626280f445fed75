"""Panels, predictions, live runs and figures for the notebooks."""

from hmpo_lib.teach.exercises import check
from hmpo_lib.teach.figures.balance import balance_explorer
from hmpo_lib.teach.figures.bandit_live import learning_live
from hmpo_lib.teach.figures.bandit_plots import bandit_explorer
from hmpo_lib.teach.figures.bandit_traces import load_bandit_traces
from hmpo_lib.teach.figures.divergence_plots import divergence_explorer
from hmpo_lib.teach.figures.exploding_token import exploding_explorer
from hmpo_lib.teach.figures.explorers import power_mean_explorer, start_panel
from hmpo_lib.teach.figures.iteration_plots import pincer_explorer
from hmpo_lib.teach.figures.loss_plots import token_strip_explorer
from hmpo_lib.teach.figures.method_cube import method_cube
from hmpo_lib.teach.figures.pincer import pincer_animation
from hmpo_lib.teach.figures.pushes import push_explorer
from hmpo_lib.teach.figures.ratio_plots import four_ratios_explorer
from hmpo_lib.teach.figures.recorded_ratios import load_recorded_ratios, recorded_explorer
from hmpo_lib.teach.figures.sign_flip import flip_explorer
from hmpo_lib.teach.figures.simulated_ratios import length_explorer, weights_explorer
from hmpo_lib.teach.figures.stability_plots import stability_explorer
from hmpo_lib.teach.live import LiveRun, fast_mode
from hmpo_lib.teach.panels import Panel, p_label, p_slider, slider
from hmpo_lib.teach.plotting import MEAN_STYLES, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.predictions import predict

__all__ = [
    "MEAN_STYLES",
    "Canvas",
    "LiveRun",
    "Panel",
    "balance_explorer",
    "bandit_explorer",
    "check",
    "divergence_explorer",
    "exploding_explorer",
    "fast_mode",
    "flip_explorer",
    "four_ratios_explorer",
    "label_ticks",
    "learning_live",
    "length_explorer",
    "load_bandit_traces",
    "load_recorded_ratios",
    "method_cube",
    "p_label",
    "p_slider",
    "pincer_animation",
    "pincer_explorer",
    "power_mean_explorer",
    "predict",
    "push_explorer",
    "recorded_explorer",
    "slider",
    "stability_explorer",
    "start_panel",
    "tidy_axes",
    "token_strip_explorer",
    "weights_explorer",
]
