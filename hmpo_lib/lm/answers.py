r"""Reading the answer out of a text, without ever evaluating it: what a completion claims, and whether that is right.

The rule. What a text announces is its answer, to the end of the line or sentence, or to "because"; behind "=" the last
side counts. Beside the one number of an answer, words, units and currency may stand. A second number, an operator, a
power, a root, a variable or a word that changes the value ("million", "not") may not. A text that announces nothing
gives its last number, if nothing of the kind touches it. What cannot be read earns nothing. All of it takes time in
proportion to the text's length.

The package math-verify reads more mathematics, and was tried as the base (0.9.0, by its `parse` and `verify`). It
computes what it reads: ``\boxed{10^{10^{10}}}`` keeps it busy until its time limit, five seconds an answer, which is a
signal and so not to be had in a thread, where notebooks train; and plain text goes to sympy's ``parse_expr``, which is
``eval``. It also finds 12 in "12:30", 5 in "5 or 6", in "not 5" and in "5 million". So a stricter reader stands here.
"""

import re
from fractions import Fraction

MAX_DIGITS = 100  # a longer number is noise, and Python's own limit on reading integers is not far

# What announces an answer; where there are several, the last one counts.
_MARKER = re.compile(r"####|\\boxed(?![A-Za-z])\s*\{?|\banswer(?:\s+is\b|\s*:)", re.IGNORECASE)

# --- LaTeX and Markdown as plain text --------------------------------------------------------------------------------

_COMMAND_END = "(?![A-Za-z])"
_CLEANING = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"\{,\}", ","),
        (r"\\!", ""),  # a space of no width
        (rf"\\[,;: ]|\\q?quad{_COMMAND_END}|~", " "),
        (rf"\\(?:left|right|displaystyle){_COMMAND_END}|\\[()\[\]]|</?[A-Za-z]{{1,20}}>", " "),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
        (rf"\^\s*(?:\\circ{_COMMAND_END}|\{{\s*\\circ\s*\}}|°)|\\degree{_COMMAND_END}", "°"),
        (r"\\([%$#&])", r"\1"),
        (rf"[=-]>|[≈→⇒]|\\(?:approx|to|implies|[rR]ightarrow){_COMMAND_END}", "="),
        (rf"\\[dtc]frac{_COMMAND_END}", r"\\frac"),
        # 3 × 10^5 as the 3e5 of programs.
        (r"(?<=[0-9])\s*(?:\\times|\\cdot|[×·⋅*x])\s*10\s*\^\s*(?:\{\s*)?([+\-−]?[0-9]++)(?:\s*\})?(?![.!^])", r"e\1"),
        # Emphasis; a star between two terms is a product.
        (r"(?<![^\s(\[\"':])[*_]{1,3}(?=[\w$€£+\-−\\\"'])|(?<=\S)[*_]{1,3}(?![^\s.,;:!?)\]\"'])|\A[*_\s]+", " "),
    )
]
_OPERAND = r"(?:\{\s*([+\-−]?)\s*([0-9][0-9,]*)\s*\}|([0-9]))"
_FRACTION = re.compile(rf"\\frac\s*{_OPERAND}\s*{_OPERAND}")

# --- numbers ---------------------------------------------------------------------------------------------------------

_SPACE = " \u00a0\u2009\u202f"  # what groups digits: a space, also one that does not break, a thin one, and both
# A number is taken with all that hangs on it (12:30, 1,23, 7/8/90), and then read as a whole or not at all.
_RUN = re.compile(
    rf"""(?<![A-Za-z_\u00b5-\u03ff0-9.])
    (?P<digits>\.?[0-9]++(?:[.,:/_{_SPACE}][0-9]++)*+)
    (?:[eE](?P<exponent>[+\-−]?[0-9]++)(?!\w))?+
    (?P<unit>\w*+)""",
    re.VERBOSE,
)
_WHOLE = rf"[0-9]+|[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]{{1,3}}(?:[{_SPACE}][0-9]{{3}})+"
_DECIMAL_OR_FRACTION = re.compile(rf"(?P<size>(?:{_WHOLE})(?:\.[0-9]+)?|\.[0-9]+)(?:/(?P<denominator>[0-9,]+))?")
_MIXED = re.compile(rf"(?P<whole>[0-9]+)[{_SPACE}](?P<numerator>[0-9]+)/(?P<denominator>[0-9]+)")
_CURRENCY = "$€£¥₹"
_MINUS = "-−–"

# --- what may stand beside one ---------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]\w*")
_UNIT_POWER = re.compile(  # but for e, whose powers are numbers
    r"(?<![A-Za-z\\])(?![eE](?![A-Za-z]))([A-Za-z]++)(?:\s*\^\s*(?:[23](?!\w)|\{\s*[23]\s*\})|[²³]|[23](?!\w))"
)
_HARMLESS = frozenset(" \t\r\n.,;:?!'\"`’‘“”()[]/#%°¢&-—" + _MINUS + _CURRENCY + _SPACE)
# Alone beside a number a letter is a variable, unless it is one of these; and so are letters that touch the number.
_LETTERS = frozenset("mglLshCFWVNJ")
_TOUCHING = re.compile(
    "[mglLshCFWVNJ]?|[ckm]m|[km]g|m[lL]|ms|min|sec|hrs?|am|pm|AM|PM|st|nd|rd|th|ft|in|mi|yd|lbs?|oz|mph|km?ph|kmh|deg|px|"
    "pts|[kKMGT]B|kWh?|[kMG]?Hz|USD|EUR"
)
_CHANGES_VALUE = re.compile(
    "(?:hundred|thousand|million|billion|trillion|dozen|third|root)s?|bn|mn|half|halves|twice|not|never|isn|or|minus|"
    "plus|negative|squared|cubed|factorial|sqrt|log|ln|sin|cos|tan|exp|mod|pi",
    re.IGNORECASE,
)
# Where an answer ends: with its sentence, or where the reasons for it begin.
_END = re.compile(r"(?<=[\w%)\]$°'\"])[.!?]\s+(?=[^\s0-9])|\s\(?(?:because|since|where|which)\b|\n", re.IGNORECASE)


def stated_answer(text: str) -> str:
    r"""What a text gives as its answer: after the last ``####``, "answer is" or "answer:", or in the last ``\boxed{}``.

    Returns:
        The rest of that line, or what the braces hold: nothing where they are never closed, since such a text was cut
        off. The whole text where nothing announces an answer.

    >>> stated_answer("2 + 2 makes 4.\n#### 4"), stated_answer(r"So \boxed{5 apples}."), stated_answer(r"\boxed{12")
    ('4', '5 apples', '')
    """
    *_, marker = [None, *_MARKER.finditer(text)]
    if marker is None:
        return text.strip()
    rest = text[marker.end() :]
    if marker[0].endswith("{"):
        return _up_to_closing_brace(rest).strip()
    if marker[0].startswith("\\"):  # \boxed 5 is TeX, too
        rest = rest.partition("$")[0]
    return rest.lstrip(": \n").partition("\n")[0].strip()


def extract_number(text: str) -> Fraction | None:
    r"""The number that a text announces as its answer, or else ends in, exactly; the module says by which rule.

    Reads signs, currency, digits in groups, decimals, fractions, mixed numbers and powers of ten (1.5e3), in plain text
    and in LaTeX. A percent sign is a unit. Nothing is evaluated: ``2+3`` is no 5.

    Returns:
        None where there is no such number, or one of more than `MAX_DIGITS` digits.

    >>> extract_number("#### 72"), extract_number(r"\boxed{-\frac34}"), extract_number("It costs $1,234.50 in all.")
    (Fraction(72, 1), Fraction(-3, 4), Fraction(2469, 2))
    >>> extract_number("The answer is 3 + 4 = 7 apples."), extract_number(r"\boxed{3\sqrt{2}}")
    (Fraction(7, 1), None)
    """
    readable = _clean(stated_answer(text))
    return _announced_number(readable) if _MARKER.search(text) else _last_number(readable)


def is_same_answer(completion: str, expected: str) -> bool:
    r"""Whether a completion gives the expected answer: equal as numbers, else the same words.

    A number is expected where the expected answer is one as a whole, with or without currency or a percent sign. Words
    are compared without regard to case, to spaces beside punctuation, and to punctuation around them.

    >>> is_same_answer("That makes 18.0 dollars.", "18"), is_same_answer(r"\boxed{\text{Paris}}", "paris")
    (True, True)
    """
    number = _bare_number(_clean(expected))
    if number is not None:
        return extract_number(completion) == number
    return _normalized(stated_answer(completion)) == _normalized(expected)


def is_readable(expected: str) -> bool:
    """Whether an expected answer says anything: punctuation alone would be what an empty completion gives."""
    return bool(_normalized(expected))


def _clean(text: str) -> str:
    """A text without the marks of LaTeX and Markdown, and without the powers of units (cm²)."""
    for pattern, plain in _CLEANING:
        text = pattern.sub(plain, text)
    return _UNIT_POWER.sub(r"\1", _FRACTION.sub(_plain_fraction, text))


def _plain_fraction(match: re.Match[str]) -> str:
    r"""\frac12 and \frac{-1}{2} as 1/2 and -1/2; the spaces keep it apart from what stands beside it."""
    sign, numerator, digit, other_sign, denominator, other_digit = match.groups()
    is_negative = (sign in ("-", "−")) != (other_sign in ("-", "−"))
    return f" {'-' if is_negative else ''}{numerator or digit}/{denominator or other_digit} "


def _announced_number(statement: str) -> Fraction | None:
    if end := _END.search(statement):
        statement = statement[: end.start() + 1]
    if re.search(r"[0-9]!|!=|[<>≤≥≠±]", statement):
        return None
    *before, side = re.split(r"=+|\bequals\b", statement)
    if any(map(_lists, before)):
        return None
    runs = list(_RUN.finditer(side))
    return _read(side[: runs[0].start()], runs[0], side[runs[0].end() :], opens=True) if len(runs) == 1 else None


def _lists(side: str) -> bool:
    """Whether a left side holds more than its equation, as in "x = 5 or x = 6", "5, y = 6" and "5 (y = 6)"."""
    return _RUN.search(side) is not None and (
        ", " in side or side.count("(") != side.count(")") or re.search(r"\b(?:or|and)\s+\w+\s*\Z", side) is not None
    )


def _last_number(text: str) -> Fraction | None:
    """The last number of a text that announces none; only what is next to it counts."""
    previous, run = 0, None
    for match in _RUN.finditer(text):
        previous, run = run.end() if run else 0, match
    if run is None:
        return None
    left, right = text[previous : run.start()], text[run.end() :]
    *_, left = left.rpartition("=")
    opens = previous == 0 or len(left) < run.start() - previous
    if words := list(_WORD.finditer(left)):
        left, opens = left[words[-2:][0].start() :], False  # two words, as in "root of 5"
    if end := _END.search(right):
        right = right[: end.start() + 1]
    right = right.partition("=")[0]
    if not run["unit"] and (word := _WORD.search(right)):
        right = right[: word.end()]
    return None if right.startswith("!") else _read(left, run, right, opens=opens)


def _bare_number(text: str) -> Fraction | None:
    """The number that a text is, with nothing beside it but a sign, currency or per cent."""
    run = _RUN.search(text)
    if run is None or text[: run.start()].strip(f"+{_MINUS}{_CURRENCY} ") or text[run.end("digits") :].strip("%$. "):
        return None
    return _read(text[: run.start()], run, "", opens=True)


def _read(left: str, run: re.Match[str], right: str, *, opens: bool) -> Fraction | None:
    """The number of a run of digits, if what stands on both sides lets it be one.

    Args:
        left, right: what stands there, as far as it counts.
        run: a match of `_RUN`.
        opens: whether a statement begins with ``left``, so that a sign in it may stand apart from the number.
    """
    before = left.rstrip(f"{_CURRENCY} ")
    is_negative = before.endswith(tuple(_MINUS))
    if is_negative or before.endswith("+"):
        touches = not any(map(str.isspace, left[len(before) :]))
        before = before[:-1]
        bare = before.strip(f"{_CURRENCY} ")
        # Otherwise it is a subtraction or a sum, as in 3-5, 3 - 5 and x -5.
        if not (opens and not bare) and not (
            touches and bare and not before[-1].isalnum() and before[-1] not in f")]}}+{_MINUS}"
        ):
            return None
    right = run["unit"] + right
    touching = re.match(r"[A-Za-z\u00b5-\u03ff]*", right)
    assert touching is not None
    if not _TOUCHING.fullmatch(touching[0]):
        return None
    if before.endswith("\\") or re.search(r"[^\W_]\(\Z|\)\s*\(\Z", before[-9:]):  # a function, a product
        return None
    if "." in run["digits"] and right.startswith(("...", "…")):
        return None
    size = _size(run) if _is_harmless(before) and _is_harmless(right) else None
    return -size if size is not None and is_negative else size


def _is_harmless(text: str) -> bool:
    """Whether a text beside a number leaves it as it is."""
    for word in _WORD.findall(text):
        is_variable = len(word) == 1 and word < "\u0400" and word not in _LETTERS and word not in ("a", "A", "I")
        if is_variable or not word.isalpha() or _CHANGES_VALUE.fullmatch(word):
            return False
    return _HARMLESS.issuperset(_WORD.sub("", text))


def _size(run: re.Match[str]) -> Fraction | None:
    digits, exponent = run["digits"], int((run["exponent"] or "0")[:5].replace("−", "-"))
    if len(digits) + abs(exponent) > MAX_DIGITS:
        return None
    if match := _DECIMAL_OR_FRACTION.fullmatch(digits):
        denominator = int((match["denominator"] or "1").replace(",", ""))
        if not denominator or (exponent and match["denominator"]):
            return None
        plain = re.sub(f"[,{_SPACE}]", "", match["size"])
        return Fraction(plain) / denominator * Fraction(10) ** exponent
    if (match := _MIXED.fullmatch(digits)) and not exponent:
        whole, numerator, denominator = map(int, match.groups())
        return whole + Fraction(numerator, denominator) if numerator < denominator else None
    return None


def _up_to_closing_brace(text: str) -> str:
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:i]
    return ""


def _normalized(text: str) -> str:
    words = " ".join(_clean(text).casefold().split())
    return re.sub(r" ?([^\w\s]) ?", r"\1", words).strip(" .,;:!?\"'`*$()")
