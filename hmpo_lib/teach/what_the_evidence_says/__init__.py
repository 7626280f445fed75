"""Notebook 09: what decides? The planned runs, their verdicts, and one more run of your own."""

from hmpo_lib.teach.what_the_evidence_says import exercises as exercises
from hmpo_lib.teach.what_the_evidence_says.add_a_run import add_a_run, pool, save_run
from hmpo_lib.teach.what_the_evidence_says.boundary_drawing import boundary_picture, boundary_table
from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.curves_panel import curves_explorer
from hmpo_lib.teach.what_the_evidence_says.forest_drawing import forest_plot
from hmpo_lib.teach.what_the_evidence_says.halves_drawing import halves_picture, halves_table
from hmpo_lib.teach.what_the_evidence_says.headline_drawing import headline_picture
from hmpo_lib.teach.what_the_evidence_says.mechanism_drawing import (
    feedback_picture,
    load_steps,
    spread_picture,
    spreads,
)
from hmpo_lib.teach.what_the_evidence_says.plan import (
    FAMILIES,
    FIVE,
    GEOMETRIC,
    NEW_SEEDS,
    OPTIMISTIC,
    ORDINARY,
    PESSIMISTIC,
    SEEDS,
    SEVEN,
    TWIN_SEEDS,
    cell_of,
    label,
    often,
    published_cell,
)
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, load_evidence
from hmpo_lib.teach.what_the_evidence_says.settings import rewards_in, verdicts, whole_blocks
from hmpo_lib.teach.what_the_evidence_says.shares import pair_shares, shares_along, variance_shares
from hmpo_lib.teach.what_the_evidence_says.shares_drawing import shares_picture
from hmpo_lib.teach.what_the_evidence_says.theory_drawing import effects, rank_correlation, theory_picture
from hmpo_lib.teach.what_the_evidence_says.verdict_drawing import verdict_picture
from hmpo_lib.teach.what_the_evidence_says.verdicts import (
    equivalence_p_value,
    false_positives,
    holm,
    judge,
    sign_flip_p_value,
)
from hmpo_lib.teach.what_the_evidence_says.worlds_experiment import FLAT, PEAKED, exact_drift

__all__ = [
    "FAMILIES",
    "FIVE",
    "FLAT",
    "GEOMETRIC",
    "NEW_SEEDS",
    "OPTIMISTIC",
    "ORDINARY",
    "PEAKED",
    "PESSIMISTIC",
    "SEEDS",
    "SEVEN",
    "TWIN_SEEDS",
    "Cell",
    "Evidence",
    "Exponents",
    "add_a_run",
    "boundary_picture",
    "boundary_table",
    "cell_of",
    "curves_explorer",
    "effects",
    "equivalence_p_value",
    "exact_drift",
    "false_positives",
    "feedback_picture",
    "forest_plot",
    "halves_picture",
    "halves_table",
    "headline_picture",
    "holm",
    "judge",
    "label",
    "load_evidence",
    "load_steps",
    "often",
    "pair_shares",
    "pool",
    "published_cell",
    "rank_correlation",
    "rewards_in",
    "save_run",
    "shares_along",
    "shares_picture",
    "sign_flip_p_value",
    "spread_picture",
    "spreads",
    "theory_picture",
    "variance_shares",
    "verdict_picture",
    "verdicts",
    "whole_blocks",
]
