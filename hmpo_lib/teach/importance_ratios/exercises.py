"""Exercises of notebook 03: from a completion's geometric ratio to its product, and how many weights are heard."""

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


@exercise(
    probes=[
        (numbers(1.0, 1.0, 1.0, 1.0),),
        (numbers(0.0, 0.5, -1.0),),
        (numbers(800.0, 799.0, 798.0, 790.0),),
        (numbers(-900.0, -900.5, -901.0),),
    ],
    mistakes={
        "Those are the weights as they are given: logarithms. Turn them into weights that sum to 1 first.": (
            lambda log_weights: log_weights.sum() ** 2 / (log_weights**2).sum()
        ),
        "That is 1 whatever the weights are, since they sum to 1. Square each weight first, then sum.": (
            lambda log_weights: 1 / torch.softmax(log_weights, dim=0).sum() ** 2
        ),
        "That is the sum of the squares itself. Take 1 over it.": (
            lambda log_weights: (torch.softmax(log_weights, dim=0) ** 2).sum()
        ),
        "`exp(800)` is infinite, and its share of the sum no number. Subtract the largest log weight first.": (
            lambda log_weights: log_weights.exp().sum() ** 2 / (log_weights.exp() ** 2).sum()
        ),
        "The weights are relative to the largest now, but they do not sum to 1 yet: divide by their sum.": (
            lambda log_weights: 1 / (torch.exp(log_weights - log_weights.max()) ** 2).sum()
        ),
        "That is 1 over the largest weight, the number of completions if all were like it. Sum the squares of all.": (
            lambda log_weights: 1 / torch.softmax(log_weights, dim=0).max()
        ),
    },
    insight="Only the differences of the log weights count, so subtract the largest before `exp`: softmax does that.",
)
def completions_heard(log_weights):
    """How many completions are heard, if these are the logarithms of their weights?

    Count them by 1 over the sum of the squared weights, after the weights have been made to sum to 1. Log weights of
    long completions can be so large that `torch.exp` of them is infinite: mind that.
    """
    weights = torch.softmax(log_weights, dim=0)
    return 1 / (weights**2).sum()
