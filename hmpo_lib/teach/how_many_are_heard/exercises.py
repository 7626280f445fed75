"""Exercise of the optional page on effective sample sizes: how many completions a weighted average uses."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


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
