"""Reading the answer out of a text, without ever evaluating it: what a completion claims, and whether that is right."""

import re
from fractions import Fraction

# What announces an answer; where there are several, the last one counts.
_MARKER = re.compile(r"####|\\boxed\s*\{|\banswer(?:\s+is\b|\s*:)", re.IGNORECASE)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}")
# Not inside a word or another number. A minus after something that ends a term is a subtraction, not a sign.
_NUMBER = re.compile(
    r"""(?<![\w./])
    (?P<sign>(?<![\w)\]}./])[+\-−])? [$€£]? (?P<inner_sign>[+\-−])?
    (?P<value>(?>[0-9]{1,3}(?:,[0-9]{3})++(?![0-9]) | [0-9]++)(?:\.[0-9]++)?+ | \.[0-9]++)
    (?:/(?P<denominator>[0-9]++)(?!\.[0-9]) | (?!/[0-9]))
    (?!\w*[0-9])""",
    re.VERBOSE,
)
MAX_DIGITS = 100  # a longer number is noise, and Python's own limit on reading integers is not far


def stated_answer(text: str) -> str:
    r"""What a text gives as its answer: after the last ``####``, "answer is" or "answer:", or in the last ``\boxed{}``.

    Returns:
        The rest of that line, or what the braces hold; the whole text where nothing announces an answer.

    >>> stated_answer("2 + 2 makes 4.\n#### 4"), stated_answer(r"So \boxed{5 apples}.")
    ('4', '5 apples')
    """
    markers = list(_MARKER.finditer(text))
    if not markers:
        return text.strip()
    rest = text[markers[-1].end() :]
    if markers[-1][0].endswith("{"):
        return _up_to_closing_brace(rest).strip()
    return rest.lstrip(": \n").partition("\n")[0].strip()


def extract_number(text: str) -> Fraction | None:
    r"""The number that a text ends in, exactly; the first one of the stated answer where one is announced.

    Reads signs, currency signs, thousands commas, decimals and fractions. Nothing is evaluated: ``2+3`` is no 5.

    Returns:
        None where there is no number, none in what was announced, or one of more than `MAX_DIGITS` digits.

    >>> extract_number("#### 72"), extract_number(r"\boxed{-3/4}"), extract_number("It costs $1,234.50 in all.")
    (Fraction(72, 1), Fraction(-3, 4), Fraction(2469, 2))
    """
    announced = _MARKER.search(text) is not None
    readable = _LATEX_FRACTION.sub(r"\1/\2", stated_answer(text).replace(r"\!", ""))  # \! is a space of no width
    matches = list(_NUMBER.finditer(readable))
    return _to_fraction(matches[0 if announced else -1]) if matches else None


def is_same_answer(completion: str, expected: str) -> bool:
    """Whether a completion gives the expected answer: equal as numbers, else the same words.

    A number is expected where the expected answer is one as a whole. Words are compared without regard to case,
    spaces and punctuation around them.

    >>> is_same_answer("That makes 18.0 dollars.", "18"), is_same_answer("The answer is Paris.", "paris")
    (True, True)
    """
    match = _NUMBER.fullmatch(expected)
    if match is not None and (number := _to_fraction(match)) is not None:
        return extract_number(completion) == number
    return _normalized(stated_answer(completion)) == _normalized(expected)


def is_readable(expected: str) -> bool:
    """Whether an expected answer says anything: punctuation alone would be what an empty completion gives."""
    return bool(_normalized(expected))


def _to_fraction(match: re.Match[str]) -> Fraction | None:
    value, denominator = match["value"].replace(",", ""), match["denominator"] or "1"
    if len(value) + len(denominator) > MAX_DIGITS or not int(denominator):
        return None
    signs = (match["sign"] or "") + (match["inner_sign"] or "")
    size = Fraction(value) / int(denominator)
    return -size if signs in ("-", "−") else size


def _up_to_closing_brace(text: str) -> str:
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:i]
    return text


def _normalized(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'`*$()")
