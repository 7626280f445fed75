"""Exercises of notebook 06: the loss of the next token, and causal attention."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import torch

from hmpo_lib.teach.checks import exercise


def surprise(logits, ids):
    """Nats for each id, by the logits at its own place."""
    return -logits.log_softmax(dim=-1).gather(-1, ids[..., None])[..., 0]


def mean_of_means(logits, ids, mask):
    """Every text counts the same, whatever its length."""
    nats, real = surprise(logits[:, :-1], ids[:, 1:]), mask[:, 1:]
    return ((nats * real).sum(dim=1) / real.sum(dim=1)).mean()


def attended(q, k, v, scale=None, hide=None, dim=-1):
    """Attention with another scale, triangle or direction of the softmax; most mistakes are one of these."""
    scores = q @ k.T / (k.shape[-1] ** 0.5 if scale is None else scale)
    later = torch.ones(len(q), len(q), dtype=torch.bool).triu(1) if hide is None else hide(len(q))
    return scores.masked_fill(later, -torch.inf).softmax(dim=dim).nan_to_num() @ v


def masked_too_late(q, k, v):
    """The weights of later tokens set to 0 after the softmax, so that the rest no longer sums to 1."""
    return (q @ k.T / k.shape[-1] ** 0.5).softmax(dim=-1).tril() @ v


def masked_by_zero(q, k, v):
    """Scores of 0 instead of −∞ for later tokens."""
    return (q @ k.T / k.shape[-1] ** 0.5).tril().softmax(dim=-1) @ v


def nothing_hidden(size):
    """A mask that hides no token."""
    return torch.zeros(size, size, dtype=torch.bool)


def earlier_hidden(size):
    """The wrong triangle."""
    return torch.ones(size, size, dtype=torch.bool).tril(-1)


def random(*shape, seed):
    """Normally distributed numbers in the precision of the notebook's tiny tensors."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = 2 * random(2, 4, 5, seed=1)
IDS = torch.tensor([[1, 3, 4, 2], [1, 2, 0, 0]])
MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


@exercise(
    probes=[(LOGITS, IDS, MASK), (LOGITS[:1], IDS[:1], MASK[:1]), (LOGITS[1:], IDS[1:], MASK[1:])],
    mistakes={
        "That compares each token with the scores at its own place. The scores at t are for the token at t + 1.": (
            lambda logits, ids, mask: surprise(logits, ids)[mask].mean()
        ),
        "The shift goes the wrong way: the scores at t are for the token at t + 1, not for the one at t − 1.": (
            lambda logits, ids, mask: surprise(logits[:, 1:], ids[:, :-1])[mask[:, 1:]].mean()
        ),
        "The padding is counted: leave out the places where the token that is predicted is not real.": (
            lambda logits, ids, mask: surprise(logits[:, :-1], ids[:, 1:]).mean()
        ),
        "That is the sum. Divide by the number of predicted tokens that are real.": (
            lambda logits, ids, mask: surprise(logits[:, :-1], ids[:, 1:])[mask[:, 1:]].sum()
        ),
        "The padding is set to 0 but still counted: divide by the number of predicted tokens that are real.": (
            lambda logits, ids, mask: (surprise(logits[:, :-1], ids[:, 1:]) * mask[:, 1:]).mean()
        ),
        "That is a mean of the texts' means. Take one mean over all predicted tokens.": mean_of_means,
        "The sign is turned round: a loss is minus the log-probability.": (
            lambda logits, ids, mask: -surprise(logits[:, :-1], ids[:, 1:])[mask[:, 1:]].mean()
        ),
        "Those are the scores themselves. Make log-probabilities of them first, with `log_softmax`.": (
            lambda logits, ids, mask: -logits[:, :-1].gather(-1, ids[:, 1:, None])[..., 0][mask[:, 1:]].mean()
        ),
        "The mask is that of the tokens that predict. Take that of the tokens that are predicted.": (
            lambda logits, ids, mask: surprise(logits[:, :-1], ids[:, 1:])[mask[:, :-1]].mean()
        ),
    },
    insight="This one number is all that the training sees.",
)
def next_token_loss(logits, ids, mask):
    """How surprised is a model by each next token, on average, in nats?

    `logits` are its scores, [batch, time, vocabulary]: those at place t are for the token at t + 1. `ids` are the
    tokens, [batch, time]. `mask` is True where a token is real, False where it is padding.
    """
    logprobs = logits[:, :-1].log_softmax(dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
    return -logprobs[mask[:, 1:]].mean()


Q, K, V = 2 * random(3, 4, 3, seed=2)


@exercise(
    probes=[(Q, K, V), (K, Q, V), (Q[:2], K[:2], V[:2])],
    mistakes={
        "A token looks at later ones. Put their scores to minus infinity before the softmax.": (
            lambda q, k, v: attended(q, k, v, hide=nothing_hidden)
        ),
        "The wrong triangle is hidden: each token now sees itself and the later ones.": (
            lambda q, k, v: attended(q, k, v, hide=earlier_hidden)
        ),
        "The scores are not divided by the root of the size.": lambda q, k, v: attended(q, k, v, scale=1.0),
        "The scores are divided by the size. Take its root.": lambda q, k, v: attended(q, k, v, scale=k.shape[-1]),
        "The softmax runs over the queries. Each query's own weights sum to 1, so let it run over the keys.": (
            lambda q, k, v: attended(q, k, v, dim=0)
        ),
        "Hidden after the softmax, so that the weights no longer sum to 1. Hide the scores before it.": masked_too_late,
        "A score of 0 is not hidden: its weight is exp(0) over the sum. Minus infinity has the weight 0.": (
            masked_by_zero
        ),
    },
    insight="No output depends on a later token: so one pass trains the model on every place of the text at once.",
)
def causal_attention(q, k, v):
    """One head of attention, in which no token sees a later one.

    `q`, `k` and `v` hold a query, a key and a value for each token, [time, size]. The scores are q · k over the root of
    the size; a softmax over the keys makes weights of them; the output is the weighted sum of the values, [time, size].
    """
    scores = q @ k.T / q.shape[-1] ** 0.5
    later = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1) @ v
