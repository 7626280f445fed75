"""Notebook 01: three means, their shares and the pushes that tokens get."""

from hmpo_lib.teach.shared.real_answer import real_answer
from hmpo_lib.teach.three_means import exercises as exercises
from hmpo_lib.teach.three_means.answer_panel import real_pushes
from hmpo_lib.teach.three_means.power_mean_panel import power_mean_explorer
from hmpo_lib.teach.three_means.push_panel import push_explorer
from hmpo_lib.teach.three_means.semicircle_panel import semicircle
from hmpo_lib.teach.three_means.tangent_drawing import tangent

__all__ = ["power_mean_explorer", "push_explorer", "real_answer", "real_pushes", "semicircle", "tangent"]
