"""Exercise of the optional page on calibrated clips: the width that blocks a given share, without a search."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


D = numbers(0.31, -0.52, 0.07, 0.94, 0.11, -0.23, -0.02, 0.45, -0.66, 0.18, -0.09)
SIGNED = numbers(1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0)
SCALED = SIGNED * numbers(0.4, 2.5, 0.3, 0.2, 1.6, 0.9, 1.0, 0.7, 2.0, 1.2, 0.5)


@exercise(
    probes=[(D, SCALED, 0.1), (D, SCALED, 0.25), (D, SCALED, 0.4), (D, -SCALED, 0.2)],
    mistakes={
        "That counts tokens on both sides. The clip blocks upwards where A > 0, downwards where A < 0.": (
            lambda d, A, share: torch.quantile(d.abs(), 1 - share)
        ),
        "That takes every token as if A were positive. Where A < 0 the blocked ones have fallen: turn their sign.": (
            lambda d, A, share: torch.quantile(d, 1 - share)
        ),
        "That is the width which leaves only `share` unblocked. The blocked ones lie above c: 1 - share lie below.": (
            lambda d, A, share: torch.quantile(A.sign() * d, share)
        ),
        "How large A is does not matter to the clip, only its sign does.": (
            lambda d, A, share: torch.quantile(A * d, 1 - share)
        ),
        "That is the end of the range, exp(c). Return its logarithm, the width c.": (
            lambda d, A, share: torch.quantile(A.sign() * d, 1 - share).exp()
        ),
    },
    insight="One quantile replaces the search, of how far each token has gone in the direction that A asks for.",
)
def width_that_blocks(d, A, share):
    """The width c at which a clip on tokens blocks this share of them.

    d holds the log-ratios of all tokens and A the advantage of each, none of them 0. A token is blocked
    if d > c where A is positive, and if d < -c where A is negative. `torch.quantile(x, q)` is the number
    that a part q of the entries of x lies below.
    """
    return torch.quantile(A.sign() * d, 1 - share)
