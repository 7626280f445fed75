"""Exercises of notebook 06: where the parameters are, a sampler's temperature, and what no model can know."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import math

import torch

from hmpo_lib.teach.checks import exercise


def count(vocabulary, width, hidden, layers, *, embeddings=1, attention=4, mlp=3, norms=2, last=1):
    """Parameters with other numbers of matrices and norms; most mistakes are one of these."""
    block = attention * width**2 + mlp * width * hidden + norms * width
    return embeddings * vocabulary * width + layers * block + last * width


@exercise(
    probes=[(20, 128, 384, 2), (20, 128, 384, 1), (32_000, 2048, 5632, 22)],
    mistakes={
        "The head is no matrix of its own: it is the embedding once more, so count it once.": (
            lambda *sizes: count(*sizes, embeddings=2)
        ),
        "The norm before the head is missing: one more weight for each of the `width` numbers.": (
            lambda *sizes: count(*sizes, last=0)
        ),
        "Each block has two norms, one before attention and one before the MLP.": lambda *sizes: count(*sizes, norms=1),
        "The norms are missing: two in each block, one before the head, `width` weights each.": (
            lambda *sizes: count(*sizes, norms=0, last=0)
        ),
        "The MLP has three matrices: gate, up and down.": lambda *sizes: count(*sizes, mlp=2),
        "Attention has four matrices: q, k, v and o.": lambda *sizes: count(*sizes, attention=3),
        "That is one block. There are `layers` of them.": (
            lambda vocabulary, width, hidden, layers: count(vocabulary, width, hidden, 1)
        ),
        "The embedding is missing: `width` numbers for each token.": lambda *sizes: count(*sizes, embeddings=0),
        "The heads do not multiply anything: together their q's are one matrix, `width` by `width`.": (
            lambda *sizes: count(*sizes, attention=16)
        ),
    },
    insight="Ours has 429,184, more than two thirds of it in the MLPs. In large models the share is much the same.",
)
def parameters(vocabulary, width, hidden, layers):
    """How many numbers does a `Model` learn?

    `vocabulary` tokens, vectors of `width` numbers, `hidden` numbers inside each MLP, `layers` blocks.
    """
    block = 4 * width**2 + 3 * width * hidden + 2 * width
    return vocabulary * width + layers * block + width


LOGITS = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.1, 0.2, 0.3, -2.0]], dtype=torch.float64)


@exercise(
    probes=[(LOGITS, 1.0), (LOGITS, 0.5), (LOGITS, 3.0), (LOGITS[0], 0.1)],
    mistakes={
        "The other way round: a *low* temperature sharpens, so divide by it.": (
            lambda logits, temperature: (logits * temperature).softmax(dim=-1)
        ),
        "The probabilities no longer sum to 1: divide the logits, before the softmax.": (
            lambda logits, temperature: logits.softmax(dim=-1) / temperature
        ),
        "Those powers of the probabilities are right up to a factor: they no longer sum to 1.": (
            lambda logits, temperature: logits.softmax(dim=-1) ** (1 / temperature)
        ),
        "Those are log-probabilities.": lambda logits, temperature: (logits / temperature).log_softmax(dim=-1),
        "The temperature has no effect.": lambda logits, temperature: logits.softmax(dim=-1),
        "Those are the scores. A softmax over the last dimension makes probabilities of them.": (
            lambda logits, temperature: logits / temperature
        ),
        "The softmax runs over the rows. Each row is a distribution over tokens: take the last dimension.": (
            lambda logits, temperature: (logits / temperature).softmax(dim=0)
        ),
    },
    insight="At 1 the model speaks as it was trained; near 0 it says the likeliest token alone; far above 1, anything.",
)
def at_temperature(logits, temperature):
    """The probabilities from which a sampler draws at a temperature above 0.

    `logits` are a model's scores, [..., tokens]. A temperature of 1 changes nothing; a low one makes
    the likeliest tokens likelier still.
    """
    return (logits / temperature).softmax(dim=-1)


@exercise(
    probes=[(3, False), (3, True), (5, False), (4, True)],
    mistakes={
        "How many numbers there are is unknown too: 3, 4 or 5, log 3 nats.": (
            lambda n, worked: n * math.log(20) - math.log(0.4 if worked else 0.6)
        ),
        "Whether the work is shown is a surprise too: −log 0.4, or −log 0.6.": (
            lambda n, worked: math.log(3) + n * math.log(20)
        ),
        "The two shares are exchanged: work is shown in four of ten texts.": (
            lambda n, worked: math.log(3) + n * math.log(20) - math.log(0.6 if worked else 0.4)
        ),
        "Each of the n numbers is a surprise of log 20.": (
            lambda n, worked: math.log(3) + math.log(20) - math.log(0.4 if worked else 0.6)
        ),
        "A surprise is *minus* the logarithm of a probability: −log 0.4 is above 0.": (
            lambda n, worked: math.log(3) + n * math.log(20) + math.log(0.4 if worked else 0.6)
        ),
        "Those are bits. Nats are natural logarithms.": (
            lambda n, worked: math.log2(3) + n * math.log2(20) - math.log2(0.4 if worked else 0.6)
        ),
        "That is the probability of the text. Its surprise is minus the logarithm.": (
            lambda n, worked: 20**-n * (0.4 if worked else 0.6) / 3
        ),
    },
    insight="Between 10.6 and 17 nats a text, and no training takes them away: the loss has a floor.",
)
def unavoidable(n, worked):
    """The surprise, in nats, that is left for a model that knows how the texts are made and never errs in a sum.

    `n` is how many numbers the text adds, `worked` whether it shows the work. What comes by chance: 3, 4 or 5
    numbers, equally likely; each of 0 to 19 equally likely; work in four of ten texts. All else follows.
    """
    return math.log(3) + n * math.log(20) - math.log(0.4 if worked else 0.6)
