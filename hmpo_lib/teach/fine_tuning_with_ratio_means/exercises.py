"""Exercises of notebook 08: which steps can depend on p, and what a worked answer is worth within its group."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

from hmpo_lib.teach.checks import exercise


@exercise(
    probes=[(50, 4, 1), (50, 4, 2), (50, 1, 3), (50, 1, 1), (1, 8, 2)],
    mistakes={
        "Those are all steps of the run. The first one after each sampling has ratios of 1.": (
            lambda rollouts, minibatches, epochs: rollouts * minibatches * epochs
        ),
        "Not only the first step of the run has ratios of 1: so has the first step after each sampling.": (
            lambda rollouts, minibatches, epochs: rollouts * minibatches * epochs - 1
        ),
        "From the second epoch on the first minibatch is stale too: the model has moved since it was drawn.": (
            lambda rollouts, minibatches, epochs: rollouts * epochs * (minibatches - 1)
        ),
        "That is one pass over each rollout. The later epochs take steps as well.": (
            lambda rollouts, minibatches, epochs: rollouts * (minibatches - 1)
        ),
    },
    insight="With one minibatch and one epoch there are none: every step is the same for GRPO, GSPO and HMPO.",
)
def steps_that_can_depend_on_p(rollouts, minibatches, epochs):
    """For how many steps of a run does p matter to the step itself, given the model and the answers then?

    Each rollout is split into minibatches, with one optimizer step for each of them. The whole rollout is passed over
    `epochs` times before the next one is drawn.
    """
    return rollouts * (minibatches * epochs - 1)


@exercise(
    probes=[(0.25, 0.9, 0.4), (0.75, 0.9, 0.4), (0.1, 0.5, 0.5), (0.3, 0.2, 0.7), (1.0, 0.9, 0.4)],
    mistakes={
        "That compares with direct answers only. The worked answers are in the group's mean as well.": (
            lambda share, right_if_worked, right_if_direct: right_if_worked - right_if_direct
        ),
        "The group is not half worked and half direct: weigh the two by their shares.": (
            lambda share, right_if_worked, right_if_direct: (right_if_worked - right_if_direct) / 2
        ),
        "The shares are exchanged: `share` belongs to the worked answers.": (
            lambda share, right_if_worked, right_if_direct: share * (right_if_worked - right_if_direct)
        ),
        "That is what a worked answer earns. Subtract the mean of the group.": (
            lambda share, right_if_worked, right_if_direct: right_if_worked
        ),
        "The sign is turned round: the advantage is above 0 for what is better than the mean.": (
            lambda share, right_if_worked, right_if_direct: (1 - share) * (right_if_direct - right_if_worked)
        ),
        "That is the mean reward of the group. Subtract it from that of a worked answer.": (
            lambda share, right_if_worked, right_if_direct: share * right_if_worked + (1 - share) * right_if_direct
        ),
    },
    insight="The more answers show their work, the smaller it gets; when all do, there is nothing to be better than.",
)
def advantage_of_work(share, right_if_worked, right_if_direct):
    """How far above its group's mean reward is a worked answer, on average?

    In a large group `share` of the answers are worked, the rest direct. A worked answer earns 1 with probability
    `right_if_worked`, a direct one with probability `right_if_direct`; else they earn 0. The standard deviation is
    left out here.
    """
    mean = share * right_if_worked + (1 - share) * right_if_direct
    return right_if_worked - mean
