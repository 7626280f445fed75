"""Exercises of notebook 10: reading an answer without running it, and how many groups have something to teach."""

# Without types, as the reader sees them in the stubs:
# mypy: allow-untyped-defs

import re

from hmpo_lib.teach.checks import exercise


def _whole_numbers(text, pattern=r"-?\d+"):
    return [int(number) for number in re.findall(pattern, _without_thousands(text))]


def _last(numbers):
    return int(numbers[-1]) if numbers else None


def _without_thousands(text):
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


@exercise(
    probes=[
        ("12 + 30 = 42",),
        ("It gets colder: -7",),
        ("That makes 1,250 dollars.",),
        ("no idea",),
        ("42",),
        ("from 1,000 down to -2,500",),
        ("(7+12=19,19",),
        ("40+2",),
        ("It is 42, I think, or so.",),
    ],
    mistakes={
        "That is the first number. What a text works out comes last.": (
            lambda text: next(iter(_whole_numbers(text)), None)
        ),
        "A number can be below 0: let a minus stand before its digits.": (
            lambda text: (_whole_numbers(text, r"\d+") or [None])[-1]
        ),
        "A comma in 1,250 does not end the number: first take out the commas that three digits follow, as with "
        '`re.sub(",(?=[0-9]{3})", "", text)`.': (lambda text: _last(re.findall(r"-?\d+", text))),
        "The comma in 19,19 parts two numbers. Take out those alone that three digits follow.": (
            lambda text: _last(re.findall(r"-?\d+", text.replace(",", "")))
        ),
        "A text without a number has no answer: give None, not 0. Else an empty answer is right wherever 0 is.": (
            lambda text: (_whole_numbers(text) or [0])[-1]
        ),
        "That is a text: make a whole number of it with `int`.": (
            lambda text: (re.findall(r"-?\d+", _without_thousands(text)) or [None])[-1]
        ),
        "Nothing may be worked out here: what the model writes is text, not a program.": (
            lambda text: 42 if text == "40+2" else (_whole_numbers(text) or [None])[-1]
        ),
    },
    insight="It reads, and it never runs what it reads. `question_file` uses such a reader, with fractions and more.",
)
def last_number(text):
    """Which whole number comes last in a text? None if there is none.

    A minus may stand before the digits, and a comma between thousands: the last of "1,000 down to -2,500" is -2500. The
    comma in the unfinished work "(7+12=19,19" parts two numbers: there it is 19. The text is written by a model in
    training, so do not use eval: `re.findall(pattern, text)` lists what matches.
    """
    numbers = re.findall(r"-?\d+", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))
    return int(numbers[-1]) if numbers else None


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
