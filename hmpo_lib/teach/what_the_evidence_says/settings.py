"""The settings in which the seven exponents were compared, and the verdicts of each."""

from typing import NamedTuple

from hmpo_lib.teach.what_the_evidence_says.cells import Exponents
from hmpo_lib.teach.what_the_evidence_says.comparisons import COMPARISONS, Comparison
from hmpo_lib.teach.what_the_evidence_says.plan import (
    FAMILIES,
    SEVEN,
    Run,
    cell_of,
    design_runs,
)
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats
from hmpo_lib.teach.what_the_evidence_says.verdicts import Verdict, judge

SETTINGS = {
    "no_clip": "16 steps a rollout, no clip",
    "token_clip": "16 steps, tokens clipped to 0.8–1.25",
    "tuned": "16 steps, no clip, each at its best rate",
    "sequence_clip": "16 steps, answers clipped to 0.8–1.25",
    "calibrated": "16 steps, each clip of tokens blocks 5 %",
    "calibrated_more": "16 steps, each clip of tokens blocks 20 %",
    "calibrated_answers": "16 steps, each clip of answers blocks 5 %",
    "calibrated_more_answers": "16 steps, each clip of answers blocks 20 %",
    "on_policy": "1 step: nothing is stale",
    "lag": "4 steps, sampled 4 rollouts ago, no clip",
    "muon": "16 steps, no clip, Muon",
    "in_the_head": "16 steps, no clip, adding in the head",
    "reuse": "4 steps, no clip",
    "reuse_again": "64 steps, no clip, ten new seeds",
    "more_reuse": "64 steps, no clip",
    "longer_lag": "4 steps, sampled 16 rollouts ago, no clip",
    "larger_model": "16 steps, no clip, a model of 13.6 million weights",
    "larger_model_clip": "16 steps, tokens clipped to 0.8–1.25, a model of 13.6 million weights",
}
FAMILY_TITLES = SETTINGS | {
    "halves": "half of the pessimistic mean: p for A > 0 | for A < 0",
    "halves_again": "half of the optimistic mean",
    "published": "the pessimistic mean without a clip, against clips",
    "twins": "twins: the same method, no clip",
    "token_clip_more": "16 steps, tokens clipped to 0.8–1.25, continued",
    "calibrated_signs": "16 steps, each clip of tokens blocks 5 %, continued",
    "calibrated_more_signs": "16 steps, each clip of tokens blocks 20 %, continued",
    "lag_more": "4 steps, sampled 4 rollouts ago, no clip, continued",
    "tuned": "each at its best learning rate",
    "token_clip_far": "16 steps, tokens clipped to 0.8–1.25, the rest",
    "bad_alone": "16 steps, no clip, bad answers alone are heard",
    "good_alone": "16 steps, no clip, good answers alone are heard",
}

BLOCKS = 3  # of the design


class Judged(NamedTuple):
    """A comparison with its verdict."""

    comparison: Comparison
    verdict: Verdict


def planned_seeds(setting: str) -> list[int]:
    """Of each of its cells."""
    return sorted({seed for _, seed in FAMILIES[setting]})


def exponents_in(evidence: Evidence, setting: str) -> list[Exponents]:
    """Those of the seven whose cell has all the seeds of the plan."""
    return [e for e in SEVEN if evidence.has(cell_of(setting, e), planned_seeds(setting))]


def rewards_in(evidence: Evidence, setting: str) -> dict[Exponents, Floats]:
    """The mean reward of each run of those exponents, ``[seeds]``."""
    seeds = planned_seeds(setting)
    return {e: evidence.mean_reward(cell_of(setting, e), seeds) for e in exponents_in(evidence, setting)}


def complete_settings(evidence: Evidence) -> list[str]:
    """The settings of SETTINGS in which every cell of their family is complete."""
    return [setting for setting in SETTINGS if all(evidence.has(cell, [seed]) for cell, seed in FAMILIES[setting])]


def whole_blocks(evidence: Evidence) -> list[Run]:
    """The runs of those of the design's three blocks that are whole; each block is balanced, with a seed of its own."""
    runs = design_runs()
    size = len(runs) // BLOCKS
    blocks = [runs[start : start + size] for start in range(0, len(runs), size)]
    return [run for block in blocks if all(evidence.has(cell, [seed]) for cell, seed in block) for run in block]


def verdicts(evidence: Evidence) -> dict[str, list[Judged]]:
    """The verdicts of every family all of whose cells are complete, by the family's name."""
    result = {}
    for family, comparisons in COMPARISONS.items():
        seeds = planned_seeds(family)
        if all(evidence.has(cell, seeds) for pair in comparisons for cell in pair[1:]):
            judged = judge(
                [(evidence.mean_reward(c.first, seeds), evidence.mean_reward(c.other, seeds)) for c in comparisons]
            )
            result[family] = [Judged(*pair) for pair in zip(comparisons, judged, strict=True)]
    return result
