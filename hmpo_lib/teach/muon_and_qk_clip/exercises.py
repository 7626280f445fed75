"""Exercises of notebook 07: Newton-Schulz, and the rescale of QK-Clip."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


def schulz(G, steps, a, b, c, norm=torch.linalg.matrix_norm, power=None):
    """Newton-Schulz with another norm or with powers other than the matrix's own; most mistakes are one of these."""
    X = G / norm(G)
    for _ in range(steps):
        cubed = power(X, 3) if power else X @ X.mT @ X
        fifth = power(X, 5) if power else X @ X.mT @ X @ X.mT @ X
        X = a * X + b * cubed + c * fifth
    return X


def divided_each_time(G, steps, a, b, c):
    """The norm inside the loop."""
    X = G / G.norm()
    for _ in range(steps):
        X = schulz(X, 1, a, b, c)
    return X


def largest(G):
    """The largest singular value."""
    return torch.linalg.matrix_norm(G, 2)


def rescaled(W_q, W_k, gamma, of_query=0.5, of_key=0.5):
    """Both weights times powers of each head's factor."""
    gamma = gamma.view(-1, 1, 1)
    return W_q * gamma**of_query, W_k * gamma**of_key


def factor(S_max, tau):
    """The right γ of each head."""
    return torch.where(S_max > tau, tau / S_max, torch.ones_like(S_max))


WIDE = numbers([3.0, 0.0, 1.0], [0.0, -0.2, 0.4])
TALL = numbers([1.0, 2.0], [0.5, -1.0], [0.0, 3.0])
SQUARE = numbers([0.6, -0.8], [0.3, 0.1])
JORDAN = (3.4445, -4.7750, 2.0315)

W_Q = numbers([[1.0, 2.0]], [[-1.0, 0.5]], [[3.0, 1.0]], [[0.5, 0.5]])
W_K = numbers([[2.0, -2.0]], [[1.0, 1.5]], [[0.2, 1.0]], [[4.0, 0.1]])


@exercise(
    probes=[(WIDE, 1, 1.5, -0.5, 0.0), (TALL, 2, *JORDAN), (SQUARE, 5, *JORDAN), (WIDE, 0, *JORDAN)],
    mistakes={
        "Divide G by its norm first: the polynomial is made for singular values from 0 to 1.": (
            lambda G, steps, a, b, c: schulz(G, steps, a, b, c, norm=lambda G: 1.0)
        ),
        "That divides by the largest singular value, which needs an SVD. Take the root of the sum of all squares.": (
            lambda G, steps, a, b, c: schulz(G, steps, a, b, c, norm=largest)
        ),
        "Those are powers of the single entries. The cube of a matrix that need not be square is `X @ X.T @ X`.": (
            lambda G, steps, a, b, c: schulz(G, steps, a, b, c, power=lambda X, k: X**k)
        ),
        "The term with `c` is missing: the fifth power is `X @ X.T @ X @ X.T @ X`.": (
            lambda G, steps, a, b, c: schulz(G, steps, a, b, 0.0)
        ),
        "That is a single step. Put the result in again, as often as `steps` says.": (
            lambda G, steps, a, b, c: schulz(G, min(steps, 1), a, b, c)
        ),
        "That divides by the sum of the squares. Take its root.": (
            lambda G, steps, a, b, c: schulz(G, steps, a, b, c, norm=lambda G: G.square().sum())
        ),
        "Divide by the norm once, before the first step, not at every step.": divided_each_time,
    },
    insight="No SVD anywhere, and yet it acts on each singular value by itself.",
)
def newton_schulz(G, steps, a, b, c):
    """Bring the singular values of a matrix near 1.

    Divide G by the root of the sum of its squared entries. Then apply the polynomial with the
    coefficients a, b and c as often as `steps` says, with matrix products only.
    """
    X = G / G.norm()
    for _ in range(steps):
        gram = X @ X.T
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X


@exercise(
    probes=[
        (W_Q, W_K, numbers(50.0, 400.0, 100.0, 150.0), 100.0),
        (W_Q, W_K, numbers(-300.0, 20.0, 11.0, 5.0), 10.0),
        (W_K, W_Q, numbers(1.0, 2.0, 3.0, 4.0), 100.0),
    ],
    mistakes={
        "A product of q and k gets both factors, so that the logits shrink by γ². Take the root of γ for each.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max, tau), 1, 1)
        ),
        "Only the query is scaled, by √γ, so that the logits shrink by √γ alone. The key takes the other root.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max, tau), 0.5, 0)
        ),
        "The logits come out right, but the query carries it all. That is the rule for a shared key; here share it.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max, tau), 1, 0)
        ),
        "All heads are scaled by the factor of the hottest one. Each head has its own.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max, tau).min().expand(len(S_max)))
        ),
        "The logits come out right, but the key carries it all. Share it: the root of γ for each.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max, tau), 0, 1)
        ),
        "Heads below the threshold are made larger. γ is never above 1.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, tau / S_max.abs())
        ),
        "A negative S_max makes τ/S_max negative, and its root is no number (nan). Such a head is no danger: γ = 1.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, (tau / S_max).clamp(max=1))
        ),
        "Two things: query and key get the root of γ each; and where S_max is negative, γ is 1 as well.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, (tau / S_max).clamp(max=1), 1, 1)
        ),
        "A largest logit far below 0 is no danger: there, too, γ is 1. Do not take absolute values.": (
            lambda W_q, W_k, S_max, tau: rescaled(W_q, W_k, factor(S_max.abs(), tau))
        ),
    },
    insight="The logits of a hot head become γ times what they were, its largest becomes τ; no other weight moves.",
)
def rescale_heads(W_q, W_k, S_max, tau):
    """Clip the heads whose largest logit exceeds tau, and give back both weights.

    `W_q` and `W_k` hold one matrix for each head, [heads, size, width], and no key is shared.
    `S_max` is the largest logit of each head; it may be negative.
    """
    gamma = (tau / S_max.clamp(min=tau)).view(-1, 1, 1)
    return W_q * gamma.sqrt(), W_k * gamma.sqrt()
