"""Exercises of notebook 07: how far five steps reach, one step of Muon head by head, and a clip that is none."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import math

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


def newton_schulz(G, steps=5):
    """As the notebook writes it."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G / G.norm()
    for _ in range(steps):
        gram = X @ X.T
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X


@exercise(
    probes=[(0.01, 3.4445), (0.001, 3.4445), (0.01, 1.5), (0.2, 1.5)],
    mistakes={
        "That is no whole number: a step cannot be made in part, so take the next one (`math.ceil`).": (
            lambda s, a: math.log(0.5 / s) / math.log(a)
        ),
        "That rounds down, and stops a step too early. Take the next whole number.": (
            lambda s, a: math.floor(math.log(0.5 / s) / math.log(a))
        ),
        "That is how long it takes to 1. A half is enough here.": lambda s, a: math.ceil(math.log(1 / s) / math.log(a)),
        "That adds the same amount at each step. Each step multiplies.": lambda s, a: math.ceil(0.5 / (s * a)),
    },
    insight=(
        "From 0.001 it takes Jordan's polynomial six steps, one more than Muon makes, and the classical one needs ten "
        "from 0.01."
    ),
)
def steps_to_a_half(s, a):
    """How many steps of Newton-Schulz bring a small singular value s to a half or more?

    Take it that each step multiplies it by `a`: as long as s is small, the cube and the fifth power do not matter.
    """
    return math.ceil(math.log(0.5 / s) / math.log(a))


W = numbers([1.0, 0.0, 2.0], [0.0, 1.0, -1.0], [0.5, 0.5, 0.0], [2.0, 0.0, 1.0])
LOUD = numbers([3.0, 1.0, 0.0], [-2.0, 4.0, 1.0], [0.01, 0.03, 0.0], [0.0, -0.02, 0.05])
EVEN = numbers([1.0, 0.2, 0.0], [0.3, 1.0, 0.1], [0.0, 0.4, 1.0], [0.9, -0.5, 0.3])


def stepped(change):
    """W moved by rate times a change that is made of the heads' parts of B."""
    return lambda W, B, rate, heads: W - rate * torch.cat([change(part) for part in B.chunk(heads)])


@exercise(
    probes=[(W, LOUD, 0.1, 2), (W, EVEN, 0.5, 4), (W[:2], EVEN[:2], 1.0, 1)],
    mistakes={
        "That orthogonalizes the whole matrix, all heads together. Take it apart by rows first (`B.chunk(heads)`).": (
            lambda W, B, rate, heads: W - rate * newton_schulz(B)
        ),
        "That climbs: a step goes against the gradient, so subtract.": (
            lambda W, B, rate, heads: W + rate * torch.cat([newton_schulz(part) for part in B.chunk(heads)])
        ),
        "That only divides each head's part by its norm. Its directions are as unequal as before.": (
            stepped(lambda part: part / part.norm())
        ),
        "That is an ordinary gradient step: nothing is orthogonalized.": stepped(lambda part: part),
        "That leaves out the rate.": (
            lambda W, B, rate, heads: W - torch.cat([newton_schulz(part) for part in B.chunk(heads)])
        ),
    },
    insight="Each head now moves by the rate along its own directions, whatever the other heads' gradients are.",
)
def per_head_step(W, B, rate, heads):
    """One step of Muon with each head by itself; give back the new W.

    `W` and `B` are [heads * size, width], the rows of a head together; `B` is what the momentum has made of the
    gradients. Each head moves by `rate` times its own part of `B`, orthogonalized by `newton_schulz`.
    """
    return W - rate * torch.cat([newton_schulz(part) for part in B.chunk(heads)])


S = numbers([[4.0, -2.0], [12.0, 6.0]], [[1.0, 3.0], [-1.0, 2.0]], [[-8.0, -9.0], [-30.0, -7.0]])


def scaled(factor):
    """All logits times a factor for each head."""
    return lambda S, tau: factor(S.amax(dim=(1, 2), keepdim=True), tau) * S


@exercise(
    probes=[(S, 6.0), (S, 100.0), (S, 2.0)],
    mistakes={
        "That cuts off what is above the threshold, and leaves the rest: the mistake that you are looking for.": (
            lambda S, tau: S.clamp(max=tau)
        ),
        "All heads are scaled by the factor of the hottest one. Each head has its own.": (
            lambda S, tau: S * min(1.0, tau / S.max())
        ),
        "Heads below the threshold are made hotter. The factor is never above 1.": scaled(
            lambda top, tau: tau / top.abs()
        ),
        "A head whose logits are all negative gets a negative factor. It is no danger: its factor is 1.": (
            scaled(lambda top, tau: (tau / top).clamp(max=1))
        ),
        "Both weights are scaled by the root of the factor, so the logits by the factor itself.": (
            scaled(lambda top, tau: (tau / top.clamp(min=tau)).sqrt())
        ),
    },
    insight="All logits of a hot head shrink by one factor, so what was larger stays larger, and all keep a gradient.",
)
def logits_after_qk_clip(S, tau):
    """The logits of one layer after QK-Clip has scaled its weights, from the same inputs.

    `S` are the logits before, [head, query, key], with no key shared between heads.
    """
    top = S.amax(dim=(1, 2), keepdim=True)
    return S * (tau / top.clamp(min=tau))
