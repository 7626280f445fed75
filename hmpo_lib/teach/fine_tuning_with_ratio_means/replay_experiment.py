"""A recorded optimizer step once more, under another exponent: whom each mean would have heard, and what was blocked.

The ratios are those that the run met; only what is made of them changes. Had the exponent been another one during the
run, the policy would have moved otherwise, and the later ratios would be others.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hmpo_lib.lm.records import StepRecord
from hmpo_lib.lm.tasks import is_worked
from hmpo_lib.losses import policy_loss
from hmpo_lib.means import log_power_mean, power_mean_weights
from hmpo_lib.objectives import Objective
from hmpo_lib.teach.fine_tuning_with_ratio_means.fine_tuning_drawings import BINS, TOKEN_LIMIT
from hmpo_lib.teach.panels import p_label
from hmpo_lib.teach.shared.exponents import quarters
from hmpo_lib.teach.shared.log_histograms import bin_shares

CURVE_EXPONENTS = quarters(5)
BAD_DIRECT, WORKED = KINDS = ("a bad direct answer", "a worked answer")


@dataclass(frozen=True)
class StepSeen:
    """What a step shows for every exponent alike.

    Attributes:
        rollout, step: from 0.
        row: of the shown answer in the minibatch, see `most_moved`.
        token_shares: histogram of its token ratios, `BINS` bins up to ±TOKEN_LIMIT.
        curves: for answers with A > 0 and with A < 0 the mean of M_p at CURVE_EXPONENTS; empty if there are none.
        prompt, characters: the shown answer, token by token, eos as ⏎.
        ratios: of its tokens.
        advantage: of that answer.
    """

    rollout: int
    step: int
    row: int
    token_shares: tuple[float, ...]
    curves: tuple[tuple[float, ...], ...]
    prompt: str
    characters: str
    ratios: tuple[float, ...]
    advantage: float


@dataclass(frozen=True)
class ReplayView:
    """A step under one exponent.

    Attributes:
        p: the exponent.
        mean_shares: histogram of the answers' M_p, as many bins.
        signed_means: mean of M_p over the answers with A > 0 and over those with A < 0, each in a tuple; () if none.
        heard: effective sample size over length, mean over the answers, of the ratios as heard.
        blocked: share of the tokens with A ≠ 0 that the method's clip would keep from a push.
        weights: n · W_t of the shown answer's tokens, of their ratios as recorded; 1 each when all are heard alike.
        mean: its M_p.
    """

    seen: StepSeen
    p: float
    mean_shares: tuple[float, ...]
    signed_means: tuple[tuple[float, ...], ...]
    heard: float
    blocked: float
    weights: tuple[float, ...]
    mean: float


def means_by_sign(record: StepRecord, exponents: Sequence[float]) -> list[tuple[float, ...]]:
    """For a step's answers with A > 0, then with A < 0: the mean of their M_p for each exponent; empty without any."""
    d, mask = record.log_ratios, record.completion_mask
    p = torch.tensor(exponents, dtype=d.dtype).unsqueeze(1)
    means = log_power_mean(d.expand(len(exponents), *d.shape), p.expand(-1, len(d)), mask).exp()  # [exponents, batch]
    sides = (record.advantages > 0, record.advantages < 0)
    return [tuple(means[:, side].mean(dim=1).tolist()) if bool(side.any()) else () for side in sides]


def most_moved(record: StepRecord, kind: str = WORKED) -> int:
    """The row of the answer whose log-ratios spread most, of a kind or, where there is none, of all.

    Args:
        record: of a step.
        kind: one of KINDS; answers with A = 0 are taken only where there is no other of the kind.
    """
    mask = record.completion_mask
    lengths = mask.sum(dim=1)
    means = (record.log_ratios.sum(dim=1) / lengths).unsqueeze(1)
    spread = torch.where(mask, record.log_ratios - means, 0.0).square().sum(dim=1) / lengths
    worked = torch.tensor([is_worked(record.texts[place]) for place in record.rows.tolist()])
    of_kind = worked if kind == WORKED else ~worked
    sign = record.advantages != 0 if kind == WORKED else record.advantages < 0
    for chosen in (of_kind & sign, of_kind):
        if bool(chosen.any()):
            return int(torch.where(chosen, spread, -1.0).argmax())
    return int(spread.argmax())


def see_step(record: StepRecord, kind: str = WORKED) -> StepSeen:
    """What of a record does not depend on the exponent, with an answer of a kind."""
    row = most_moved(record, kind)
    place = int(record.rows[row])
    text, length = record.texts[place], int(record.completion_mask[row].sum())
    return StepSeen(
        rollout=record.rollout,
        step=record.step,
        row=row,
        token_shares=bin_shares(record.log_ratios[record.completion_mask], limit=TOKEN_LIMIT, bins=BINS),
        curves=tuple(means_by_sign(record, CURVE_EXPONENTS)),
        prompt=record.prompts[place * len(record.prompts) // len(record.texts)],
        characters=(text + "⏎").ljust(length)[:length],  # a truncated answer has no end
        ratios=tuple(record.log_ratios[row, :length].exp().tolist()),
        advantage=float(record.advantages[row]),
    )


def view_replay(record: StepRecord, seen: StepSeen, objective: Objective, p: float, limit: float) -> ReplayView:
    """A recorded step under the exponent ``p``, exactly: from its log-ratios, advantages and mask.

    Args:
        record: of the run.
        seen: of `see_step`.
        objective: the run's; its clip, range and length weight are kept.
        p: in place of its exponent.
        limit: the answers' log M_p beyond ± this are counted in the outermost bins.
    """
    d, mask = record.log_ratios, record.completion_mask
    replayed = dataclasses.replace(objective, p=p)
    metrics = policy_loss(d, torch.zeros_like(d), record.advantages, mask, replayed, metrics=True).metrics
    log_means = log_power_mean(d, p, mask)
    shown = d[seen.row, : len(seen.ratios)]
    return ReplayView(
        seen=seen,
        p=p,
        mean_shares=bin_shares(log_means, limit=limit, bins=BINS),
        signed_means=tuple(means_by_sign(record, [p])),
        heard=float(metrics["effective_sample_size"]),
        blocked=float(metrics["blocked_fraction"]),
        weights=tuple((len(shown) * power_mean_weights(shown, p)).tolist()),
        mean=float(log_means[seen.row].exp()),
    )


def replay_caption(view: ReplayView) -> str:
    """The numbers of this exponent."""
    above, below = (f"{mean[0]:.4f}" if mean else "none" for mean in view.signed_means)
    return (
        f"{p_label(view.p)}, rollout {view.seen.rollout + 1}, step {view.seen.step + 1}: mean M of the answers with "
        f"A > 0: {above}, with A < 0: {below}; effective number of tokens 1/ΣW² on average {100 * view.heard:.1f} % of "
        f"n; {100 * view.blocked:.1f} % of the tokens blocked by the clip. The answer shown has M = {view.mean:.4f}."
    )


def replay_alt(view: ReplayView) -> str:
    """The plots in words."""
    seen = view.seen
    loudest = max(range(len(view.weights)), key=view.weights.__getitem__)
    return (
        f"Replay of a recorded step. Histograms of its token ratios and of the answers' means; the means' average by "
        f"sign of the advantage against p; and the answer {seen.characters} to {seen.prompt}, advantage "
        f"{seen.advantage:+.2f}, whose ratios lie between {min(seen.ratios):.3f} and {max(seen.ratios):.3f}: its mean "
        f"is {view.mean:.4f}, and token {loudest + 1}, {seen.characters[loudest]}, has most weight, "
        f"{view.weights[loudest]:.2f} times an even share. {replay_caption(view)}"
    )
