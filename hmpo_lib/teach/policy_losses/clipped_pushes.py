"""What one step of a policy loss does to each token of a completion, with a clip on the tokens or on their mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hmpo_lib.losses import policy_loss
from hmpo_lib.means import log_power_mean
from hmpo_lib.objectives import Clip, Objective
from hmpo_lib.teach.panels import p_label
from hmpo_lib.teach.plotting import signed
from hmpo_lib.teach.shared.power_mean_drawings import log_of

GIVEN_STALENESS = 4  # optimizer steps after which the given ratios hold


@dataclass(frozen=True)
class StripView:
    """What one setting shows of a completion.

    Attributes:
        ratios, kept: each token's ratio, and what the clip leaves of it.
        mean, kept_mean: the mean of what is left, and what of the mean is left after the clip.
        pushes: what autograd finds for each log-probability.
        blocked: whether the clip keeps the token from a push.
        difference: the largest between these pushes and A · M_p · W_t.
    """

    p: float
    advantage: float
    staleness: int
    clip: Clip | None
    clip_range: tuple[float, float]
    ratios: tuple[float, ...]
    kept: tuple[float, ...]
    mean: float
    kept_mean: float
    pushes: tuple[float, ...]
    blocked: tuple[bool, ...]
    difference: float


def autograd_pushes(log_ratios: Tensor, advantage: float, objective: Objective) -> Tensor:
    """The push on each log-probability, ∂ (A · M_p) / ∂ d_t: minus the gradient of one completion's policy loss."""
    logprobs = log_ratios.clone().unsqueeze(0).requires_grad_()
    old = torch.zeros_like(logprobs)
    loss = policy_loss(logprobs, old, torch.tensor([advantage]).to(old), torch.ones_like(old), objective).loss
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return -gradient[0]


def formula_pushes(kept: Tensor, blocked: Tensor, p: float, advantage: float) -> Tensor:
    """A · M_p · W_t of what is left, 0 where it is blocked: written out plainly, to be compared with autograd's."""
    if math.isinf(p):
        mean = kept.max().exp() if p > 0 else kept.min().exp()
        chosen = (kept.exp() == mean).to(kept.dtype)
        weights = chosen / chosen.sum()
    else:
        mean = (p * kept).exp().mean() ** (1 / p) if p else kept.mean().exp()
        weights = torch.softmax(p * kept, dim=0)
    return torch.where(blocked, 0.0, advantage * mean * weights)


def view_strip(
    ratios: Sequence[float], p: float, width: float, staleness: int, advantage: float, clip: Clip | None
) -> StripView:
    """Ratios, what is left of them, and the pushes, by autograd and by A · M_p · W_t, which is 0 for blocked tokens.

    Args:
        ratios: of the tokens, `GIVEN_STALENESS` optimizer steps after sampling; log-ratios grow with the staleness.
        width: the clip range is (e^−width, e^width).

    >>> view_strip([0.5, 1.0, 2.0], 1.0, 0.2, 4, 1.0, "token").blocked
    (False, False, True)
    """
    log_ratios = log_of(ratios) * staleness / GIVEN_STALENESS
    bound = torch.tensor(math.copysign(width, advantage), dtype=log_ratios.dtype)

    def is_beyond(log_ratio: Tensor) -> Tensor:
        return advantage * log_ratio > advantage * bound

    blocked = is_beyond(log_ratios) if clip == "token" else torch.zeros_like(log_ratios, dtype=torch.bool)
    kept = torch.where(blocked, bound, log_ratios)
    log_mean = log_power_mean(kept, p)
    if clip == "sequence":
        blocked = is_beyond(log_mean).expand_as(blocked)
    clip_range = (math.exp(-width), math.exp(width))
    pushes = autograd_pushes(log_ratios, advantage, Objective(p, clip, clip_range if clip else None))
    kept_mean = torch.where(is_beyond(log_mean), bound, log_mean) if clip == "sequence" else log_mean
    return StripView(
        p,
        advantage,
        staleness,
        clip,
        clip_range,
        tuple(log_ratios.exp().tolist()),
        tuple(kept.exp().tolist()),
        log_mean.exp().item(),
        kept_mean.exp().item(),
        tuple(pushes.tolist()),
        tuple(blocked.tolist()),
        (pushes - formula_pushes(kept, blocked, p, advantage)).abs().max().item(),
    )


def strip_verdict(view: StripView) -> str:
    """How many tokens the clip blocks."""
    count, n = sum(view.blocked), len(view.blocked)
    return {0: "no token is blocked", n: f"all {n} tokens blocked"}.get(count, f"{count} of {n} tokens blocked")


def strip_setting(view: StripView) -> str:
    """The controls in words."""
    bound = view.clip_range[1] if view.advantage > 0 else view.clip_range[0]
    wall = f"{'above' if view.advantage > 0 else 'below'} {bound:.3f}"
    places = {"token": f"tokens clipped {wall}", "sequence": f"mean clipped {wall}"}
    clip = places[view.clip] if view.clip else "no clip"
    steps = f"{view.staleness} {'step' if view.staleness == 1 else 'steps'} old"
    sign = "A = +1" if view.advantage > 0 else "A = −1"
    return f"{p_label(view.p).rpartition(', ')[2]}, {sign}, {steps}, {clip}"


def strip_caption(view: StripView) -> str:
    """The mean, the blocked tokens, and the largest difference between autograd and formula."""
    difference = f"{view.difference:.0e}" if view.difference else "0"
    mean = "mean after the clip" if view.clip == "token" else "mean"
    said = f"{strip_setting(view)}: {mean} {view.mean:.3f}, {strip_verdict(view)}"
    return f"{said}. Autograd minus formula: {difference}."


def strip_alt(view: StripView) -> str:
    """The two plots in words."""
    rows = zip(view.ratios, view.kept, view.pushes, view.blocked, strict=True)
    tokens = "; ".join(
        f"{ratio:.2f}{'' if kept == ratio else f' after the clip {kept:.2f}'}, {'blocked' if stop else signed(push)}"
        for ratio, kept, push, stop in rows
    )
    left = "" if view.kept_mean == view.mean else f", of which {view.kept_mean:.3f} is left"
    return (
        f"A strip of tokens, each with its ratio and its push: {tokens}. "
        f"Beside them their mean, {view.mean:.3f}{left}. {strip_setting(view)}."
    )
