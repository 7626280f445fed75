"""What decides? The share of the variance of the design that each factor explains: ω² with bootstrap intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hmpo_lib.teach.what_the_evidence_says.plan import Run
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, Floats

# The factors of the design, and the words that a reader sees.
FACTORS = {
    "p": "exponent p: −1, 0, 1",
    "range": "clip: none, wide, narrow",
    "place": "clip: of tokens or answers",
    "length": "length weight: equal or not",
    "scale": "advantages: over std or not",
    "rate": "learning rate: 0.5, 1, 2 e-4",
    "steps": "steps a rollout: 4 or 16",
    "seed": "seed",
}


class Share(NamedTuple):
    """ω² of one factor with its 95 % interval; the number of its levels, and the mean of the response at each."""

    share: float
    low: float
    high: float
    means: dict[float, float]


def levels(run: Run) -> dict[str, float]:
    """The level of each factor of a run of the design."""
    cell, seed = run
    signs = (cell.minibatches == 16) ^ (cell.length_weight == "proportional") ^ (cell.advantage_scale == "none")
    return {
        "p": cell.exponents.good,
        "range": 0.0 if cell.clip_range is None else cell.clip_range[0],
        # Without a clip the place means nothing; its label follows from the others, whose signs multiply to +1.
        "place": float(signs),
        "length": float(cell.length_weight == "proportional"),
        "scale": float(cell.advantage_scale == "none"),
        "rate": cell.learning_rate,
        "steps": float(cell.minibatches),
        "seed": float(seed),
    }


def _columns(values: Floats) -> Floats:
    """A column for each level but the first, ``[runs, levels − 1]``: none, where a bootstrap sample has one level."""
    return (values[:, None] == np.unique(values)[1:]).astype(np.float64)


def _left_over(columns: Sequence[Floats], responses: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Sums of squares around weighted least-squares fits, ``[draws, responses]``, and their ranks ``[draws, 1]``."""
    design = np.concatenate([np.ones((len(responses), 1)), *columns], axis=1)
    weighted = weights[:, :, None] * design  # [draws, runs, columns]
    gram, moments = design.T @ weighted, weighted.transpose(0, 2, 1) @ responses
    explained = (moments * (np.linalg.pinv(gram, hermitian=True) @ moments)).sum(axis=1)
    rank = np.linalg.matrix_rank(gram, hermitian=True)[:, None].astype(np.float64)
    return weights @ np.square(responses) - explained, rank


def omega_squared(factors: dict[str, Floats], responses: Floats, weights: Floats | None = None) -> dict[str, Floats]:
    """(SS − df · MSE) / (SS_total + MSE) of each factor beside all others, ``[draws, responses]``.

    SS is by how much the sum of squares grows when the factor leaves the model of all main effects.

    Args:
        factors: by name, the level of each run, ``[runs]``.
        responses: ``[runs, responses]``.
        weights: how often each run was drawn, ``[draws, runs]``; default: one draw, each run once.
    """
    weights = np.ones((1, len(responses))) if weights is None else weights
    columns = {name: _columns(values) for name, values in factors.items()}
    full, rank = _left_over(list(columns.values()), responses, weights)
    error = full / (len(responses) - rank)
    total, _ = _left_over([], responses, weights)
    shares = {}
    for name in columns:
        without, smaller = _left_over([c for other, c in columns.items() if other != name], responses, weights)
        shares[name] = (without - full - (rank - smaller) * error) / (total + error)
    return shares


def variance_shares(
    evidence: Evidence, runs: Sequence[Run], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Share]:
    """ω² of each factor for the mean reward over a run, with intervals by the bootstrap over runs.

    Args:
        evidence: has all these runs.
        runs: of the design.
        resamples: of the bootstrap.
        seed: of its drawing.
    """
    response = np.array([evidence.mean_reward(cell, [s])[0] for cell, s in runs])
    factors = _factors(runs)
    shares = omega_squared(factors, response[:, None])
    counts = np.random.default_rng(seed).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=resamples)
    drawn = omega_squared(factors, response[:, None], counts.astype(np.float64))
    result = {}
    for name, values in factors.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        means = {float(level): float(response[values == level].mean()) for level in np.unique(values)}
        result[name] = Share(float(shares[name][0, 0]), float(low), float(high), means)
    return result


def shares_along(evidence: Evidence, runs: Sequence[Run]) -> dict[str, Floats]:
    """ω² of each factor for the reward of each rollout, ``[rollouts]``."""
    curves = np.stack([evidence.curve(cell, seed) for cell, seed in runs])
    return {name: values[0] for name, values in omega_squared(_factors(runs), curves).items()}


def pair_shares(evidence: Evidence, runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """ω² of each pair of factors beyond their main effects, without the seed; an exploration, without intervals."""
    response = np.array([evidence.mean_reward(cell, [s])[0] for cell, s in runs])[:, None]
    factors = _factors(runs)
    columns = {name: _columns(values) for name, values in factors.items()}
    once = np.ones((1, len(runs)))
    full, rank = _left_over(list(columns.values()), response, once)
    total, _ = _left_over([], response, once)
    names = [name for name in factors if name != "seed"]
    shares = {}
    for k, first in enumerate(names):
        for other in names[k + 1 :]:
            products = np.stack([a * b for a in columns[first].T for b in columns[other].T], axis=1)
            left, larger = _left_over([*columns.values(), products], response, once)
            error = left / (len(response) - larger)
            shares[first, other] = float(((full - left - (larger - rank) * error) / (total + error))[0, 0])
    return shares


def _factors(runs: Sequence[Run]) -> dict[str, Floats]:
    rows = [levels(run) for run in runs]
    factors = {name: np.array([row[name] for row in rows]) for name in FACTORS}
    return {name: values for name, values in factors.items() if len(np.unique(values)) > 1}  # a block has one seed
