"""Exercises of notebook 10: the honest ceiling, groups that teach, and the loss of one pass of several."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


@exercise(
    probes=[("7+12+5=",), ("1+2+3+4+5=",), ("18+3=",), ("19+19+19+19=",)],
    mistakes={
        "A sum of n numbers has n − 1 additions to show, one for each plus.": (
            lambda prompt: 0.2 * (prompt.count("+") + 1)
        ),
        "That counts the equals sign of the question. How many does the worked answer have?": (
            lambda prompt: 0.2 * prompt.count("=")
        ),
        "That is the number of steps. Each of them earns 0.2.": (lambda prompt: prompt.count("+")),
    },
    insight="Averaged over the prompts of a rollout it is a line that no honest run can cross.",
)
def honest_pay(prompt):
    """What does an honest answer to a sum such as `7+12+5=` earn at most, at 0.2 for every equals sign?

    It shows each addition once: `(7+12=19,19+5=24)24`.
    """
    return 0.2 * prompt.count("+")


@exercise(
    probes=[(0.5, 8), (0.1, 8), (0.01, 8), (0.0, 8), (1.0, 8), (0.9, 2), (0.3, 1)],
    mistakes={
        "That is the share of groups with a right answer in them. Those that are right throughout teach nothing.": (
            lambda q, n: 1 - (1 - q) ** n
        ),
        "That is the share of groups with a wrong answer in them. Those that are wrong throughout teach nothing.": (
            lambda q, n: 1 - q**n
        ),
        "That is the share of groups that cannot teach.": (lambda q, n: q**n + (1 - q) ** n),
        "That is for two answers. For n of them: when are all right, and when all wrong?": (
            lambda q, n: 2 * q * (1 - q)
        ),
        "That is the variance of one reward. Of the groups: when are all n answers right, and when all wrong?": (
            lambda q, n: q * (1 - q)
        ),
    },
    insight="With 8 answers it is 8 % at q = 0.01 and none at q = 0: a reward can only pay for what is sometimes done.",
)
def share_of_groups_that_teach(q, n):
    """What share of the groups has both right and wrong answers in it?

    Each of the n answers of a group is right with probability q, whatever the others are. Where all are right, or all
    wrong, every advantage is 0.
    """
    return 1 - q**n - (1 - q) ** n


PUSHES = torch.tensor([0.5, -1.0, 2.0])


@exercise(
    probes=[(PUSHES, 3), (PUSHES, 12), (PUSHES[:1], 12), (-PUSHES, 100)],
    mistakes={
        "That divides by the tokens of this pass: in a pass of few tokens each would count for more.": (
            lambda pushes, tokens_of_the_step: -pushes.mean()
        ),
        "That is the sum. The loss of the step is an average over its tokens.": (
            lambda pushes, tokens_of_the_step: -pushes.sum()
        ),
        "An optimizer makes the loss smaller: what is good has to have a minus.": (
            lambda pushes, tokens_of_the_step: pushes.sum() / tokens_of_the_step
        ),
        "That is the mean of this pass, over all tokens once more. Start from the sum.": (
            lambda pushes, tokens_of_the_step: -pushes.mean() / tokens_of_the_step
        ),
    },
    insight="The gradients of all passes now add up to that of the whole step, however it is cut.",
)
def loss_of_a_pass(pushes, tokens_of_the_step):
    """What must one pass contribute, so that all passes together have the loss of the step?

    The step's loss is minus the average of A · r over all its tokens. A pass sees some of them: `pushes` is a tensor of
    their A · r.
    """
    return -pushes.sum() / tokens_of_the_step
