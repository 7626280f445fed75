"""Notebook 06: a language model, and which optimizer trains it."""

from hmpo_lib.teach.a_language_model_from_scratch import exercises as exercises
from hmpo_lib.teach.a_language_model_from_scratch.attention_panel import attention_explorer, characters
from hmpo_lib.teach.a_language_model_from_scratch.block_drawing import the_model
from hmpo_lib.teach.a_language_model_from_scratch.digits_experiment import (
    KINDS,
    MODES,
    SUBSETS,
    digit_scores,
    guesses,
    held_out_texts,
    mean_outputs,
    switched_off,
)
from hmpo_lib.teach.a_language_model_from_scratch.digits_panel import digits_explorer
from hmpo_lib.teach.a_language_model_from_scratch.digits_recording import TEXTS, TEXTS_SEED, load_digit_traces
from hmpo_lib.teach.a_language_model_from_scratch.heads_panel import heads_explorer
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
    "KINDS",
    "LONG",
    "LONG_RATES",
    "MODES",
    "OPTIMIZERS",
    "RATES",
    "RECORDS",
    "STEPS",
    "SUBSETS",
    "TEXTS",
    "TEXTS_SEED",
    "attention_explorer",
    "characters",
    "digit_scores",
    "digits_explorer",
    "final_losses",
    "guesses",
    "heads_explorer",
    "held_out_texts",
    "least_loss",
    "load_digit_traces",
    "load_race_traces",
    "mean_outputs",
    "race_explorer",
    "race_live",
    "race_optimizer",
    "steps_needed",
    "switched_off",
    "the_model",
    "tuning_explorer",
]
