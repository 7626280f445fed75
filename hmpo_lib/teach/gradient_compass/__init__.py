"""The optional page on the gradient of all weights: how far the exponent turns it."""

from hmpo_lib.teach.gradient_compass.compass_experiment import (
    EXPONENTS,
    STALENESS,
    change_rates,
    gradient_compass,
    load_compass,
    turning_rates,
)
from hmpo_lib.teach.gradient_compass.compass_panel import compass_explorer
from hmpo_lib.teach.gradient_compass.turning_drawing import turning_drawing

__all__ = [
    "EXPONENTS",
    "STALENESS",
    "change_rates",
    "compass_explorer",
    "gradient_compass",
    "load_compass",
    "turning_drawing",
    "turning_rates",
]
