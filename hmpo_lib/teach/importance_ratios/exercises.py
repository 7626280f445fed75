"""Exercises of notebook 03: from a completion's geometric ratio to its product, and its harmonic ratio."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


def completions(*lengths):
    """The mask of completions of these lengths, padded to one more than the longest."""
    return torch.arange(max(lengths) + 1) < torch.tensor(lengths).unsqueeze(1)


@exercise(
    probes=[
        (numbers(1.02, 1.02), completions(2, 200)),
        (numbers(0.9, 1.1, 1.0), completions(3, 5, 4)),
        (numbers(0.97, 1.2), completions(40, 1)),
    ],
    mistakes={
        "Every completion got the padded length. Count the tokens of each: the row sums of the mask.": (
            lambda geometric, mask: geometric ** mask.shape[1]
        ),
        "All completions got the length of the longest. Count the tokens of each row: `mask.sum(dim=1)`.": (
            lambda geometric, mask: geometric ** mask.sum(dim=1).max()
        ),
        "That counts the tokens of all completions together: `mask.sum(dim=1)` counts those of each row.": (
            lambda geometric, mask: geometric ** mask.sum()
        ),
        "Multiplying adds up; ratios are multiplied with each other. Which power of the ratio is the product?": (
            lambda geometric, mask: geometric * mask.sum(dim=1)
        ),
        "That is the way back, from the product to the geometric ratio.": (
            lambda geometric, mask: geometric ** (1 / mask.sum(dim=1))
        ),
        "That is the tokens' number times the log. Undo the logarithm at the end.": (
            lambda geometric, mask: geometric.log() * mask.sum(dim=1)
        ),
    },
    insight="The same geometric ratio of 1.02 is a product of 1.04 for 2 tokens and of 52 for 200.",
)
def product_ratios(geometric, mask):
    """The product ratio of each completion, from its geometric ratio.

    `geometric` has one ratio for each completion. `mask` has one row for each, true where a token is and false where
    there is only padding.
    """
    return geometric ** mask.sum(dim=1)


D = numbers([0.3, -0.5, 0.0, 0.9, 0.0], [0.1, -2.0, 0.2, 0.0, 0.0], [-0.2, 0.0, 0.0, 0.0, 0.0])


@exercise(
    probes=[(D, completions(4, 3, 1)), (D / 10, completions(4, 3, 1)), (-D, completions(4, 3, 1))],
    mistakes={
        "The padded places count here, as tokens of ratio 1. Multiply by the mask before you sum, and divide by the "
        "number of tokens of each row.": lambda d, mask: mask.shape[1] / (-d).exp().sum(dim=1),
        "The padded places are left out of the sum, but still counted: the number of tokens is `mask.sum(dim=1)`.": (
            lambda d, mask: mask.shape[1] / ((-d).exp() * mask).sum(dim=1)
        ),
        "That is the arithmetic mean. The harmonic one averages the reciprocals, exp(−d), and inverts the average.": (
            lambda d, mask: (d.exp() * mask).sum(dim=1) / mask.sum(dim=1)
        ),
        "That is the geometric mean, exp of the average of d.": (
            lambda d, mask: ((d * mask).sum(dim=1) / mask.sum(dim=1)).exp()
        ),
        "That is the average of the reciprocals. Take 1 over it.": (
            lambda d, mask: ((-d).exp() * mask).sum(dim=1) / mask.sum(dim=1)
        ),
        "That is one number for the whole batch: sum along each row, with `dim=1`.": (
            lambda d, mask: mask.sum() / ((-d).exp() * mask).sum()
        ),
    },
    insight="A masked mean has the mask twice: in the sum, and in what it is divided by.",
)
def harmonic_ratios(d, mask):
    """The harmonic mean of each completion's ratios exp(d).

    `d` has one row of log-ratios for each completion. `mask` is true where a token is and false
    where there is only padding.
    """
    return mask.sum(dim=1) / ((-d).exp() * mask).sum(dim=1)
