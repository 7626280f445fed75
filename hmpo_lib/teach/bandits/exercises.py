"""Exercises of notebook 05: a policy gradient, an unbiased weight, and a division that leaves oneself out."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def numbers(*values):
    """A tensor in the precision of the notebook."""
    return torch.tensor(values, dtype=torch.float64)


NEW = numbers([0.5, 0.9], [0.2, 0.3], [0.4, 0.4])
OLD = numbers([0.4, 0.6], [0.5, 0.3], [0.4, 0.8])


@exercise(
    probes=[(0.5, 1.0, 0.0), (0.9, 1.0, 0.0), (0.3, 0.2, 0.7), (0.6, 2.0, 2.0)],
    mistakes={
        "Both arms' probabilities move with the logit, since they sum to 1: multiply by 1 - q as well.": (
            lambda q, first, second: q * (first - second)
        ),
        "That is the expected reward itself. How much does it change when the logit grows a little?": (
            lambda q, first, second: q * first + (1 - q) * second
        ),
        "That is how fast q itself grows. How much does it earn when the first arm takes it from the second?": (
            lambda q, first, second: q * (1 - q)
        ),
        "The second arm loses what the first one gains. Compare the two rewards.": (
            lambda q, first, second: q * (1 - q) * first
        ),
        "The sign is turned round: raising the first arm's logit helps where the first arm earns more.": (
            lambda q, first, second: q * (1 - q) * (second - first)
        ),
        "That is the derivative by q. By the logit it is this times the derivative of q by the logit, q (1 - q).": (
            lambda q, first, second: first - second
        ),
    },
    insight="Near q = 0 and q = 1 it fades whatever the arms earn: who never tries an arm does not learn about it.",
)
def slope_of_two_arms(q, first, second):
    """How fast does the expected reward of two arms grow with the first arm's logit?

    q is the probability of the first arm, from the softmax of the two logits. On average the
    arms earn `first` and `second`.
    """
    return q * (1 - q) * (first - second)


@exercise(
    probes=[(NEW, OLD), (OLD, NEW), (NEW[:2], OLD[:2])],
    mistakes={
        "That is the arithmetic mean of the token ratios. A sequence's probability is the product of its tokens'.": (
            lambda new, old: (new / old).mean(dim=1)
        ),
        "That is the geometric mean. Leave out the root: with it, long sequences hardly count as changed.": (
            lambda new, old: (new / old).log().mean(dim=1).exp()
        ),
        "That is the harmonic mean of the token ratios. A sequence's probability is the product of its tokens'.": (
            lambda new, old: 1 / (old / new).mean(dim=1)
        ),
        "That is the ratio of the last tokens alone. Every token of the sequence counts.": (
            lambda new, old: (new / old)[:, -1]
        ),
        "That multiplies the ratios of all sequences. Each row is a sequence: `prod(dim=1)`.": (
            lambda new, old: (new / old).prod()
        ),
        "That is the logarithm of the weight. Undo it at the end.": (lambda new, old: (new / old).log().sum(dim=1)),
        "Upside down: the samples come from old, so old stands below.": lambda new, old: (old / new).prod(dim=1),
    },
    insight="It is the only one of the four that is unbiased, and for long sequences by far the most scattered.",
)
def unbiased_weights(new, old):
    """The weight of each sequence with which old's samples tell new's expected reward.

    The average of weight times reward, over sequences that old sampled, is to be the expected
    reward of new on average, whatever the rewards are. `new` and `old` hold the probabilities of
    each sequence's tokens, one row a sequence.
    """
    return (new / old).prod(dim=1)


@exercise(
    probes=[
        (numbers(-10.0, 1.0, 3.0, 5.0),),
        (numbers(1.0, 2.0, 2.5),),
        (numbers(0.0, 1.0, 1.5, -2.0, 3.0),),
    ],
    mistakes={
        "That is one number for all, with each reward in its own std. Leave the reward itself out of it.": (
            lambda rewards: rewards.std().expand(len(rewards))
        ),
        "That is the average of the others. How far do they lie apart? Take their `std()`.": (
            lambda rewards: (rewards.sum() - rewards) / (len(rewards) - 1)
        ),
        "That is the variance of the others. Take the root.": (
            lambda rewards: torch.stack([torch.cat([rewards[:i], rewards[i + 1 :]]).var() for i in range(len(rewards))])
        ),
        "Divide by one less than the number of the others, as `std()` does.": (
            lambda rewards: torch.stack(
                [torch.cat([rewards[:i], rewards[i + 1 :]]).std(correction=0) for i in range(len(rewards))]
            )
        ),
    },
    insight="What a reward is divided by no longer depends on that reward, so a disaster cannot shrink itself.",
)
def std_without_oneself(rewards):
    """For each reward of a rollout, the standard deviation of all the others.

    `rewards` is one row of at least three numbers; the result has a number for each.
    """
    return torch.stack([torch.cat([rewards[:i], rewards[i + 1 :]]).std() for i in range(len(rewards))])
