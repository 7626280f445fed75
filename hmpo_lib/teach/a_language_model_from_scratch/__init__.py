"""Notebook 06: a language model, and which optimizer trains it."""

from hmpo_lib.teach.a_language_model_from_scratch import exercises as exercises
from hmpo_lib.teach.a_language_model_from_scratch.attention_panel import (
    attention_explorer,
    attention_weights,
    mean_weights,
    worked_places,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_drawings import LONG
from hmpo_lib.teach.a_language_model_from_scratch.race_experiment import RECORDS, STEPS, least_loss, race_optimizer
from hmpo_lib.teach.a_language_model_from_scratch.race_panel import (
    final_losses,
    race_explorer,
    race_live,
    steps_needed,
    tuning_explorer,
)
from hmpo_lib.teach.a_language_model_from_scratch.race_recording import (
    DETAILS,
    LONG_RATES,
    OPTIMIZERS,
    RATES,
    load_race_traces,
)

__all__ = [
    "DETAILS",
    "LONG",
    "LONG_RATES",
    "OPTIMIZERS",
    "RATES",
    "RECORDS",
    "STEPS",
    "attention_explorer",
    "attention_weights",
    "final_losses",
    "least_loss",
    "load_race_traces",
    "mean_weights",
    "race_explorer",
    "race_live",
    "race_optimizer",
    "steps_needed",
    "tuning_explorer",
    "worked_places",
]
