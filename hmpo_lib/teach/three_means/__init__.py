"""Notebook 01: three means, their weights and the pushes that tokens get."""

from hmpo_lib.teach.three_means import exercises as exercises
from hmpo_lib.teach.three_means.power_mean_panel import power_mean_explorer
from hmpo_lib.teach.three_means.push_panel import push_explorer

__all__ = ["power_mean_explorer", "push_explorer"]
