"""The extractor: it finds what a text states, reads it exactly, and nothing in a text can make it fail."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmpo_lib.lm.answers import MAX_DIGITS, extract_number, is_same_answer, stated_answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 72", "72"),
        ("48/2 = 24, and 48 + 24 = 72.\n#### 72", "72"),
        ("#### 5\nNo: #### 6", "6"),  # the last announcement counts
        ("#### 5 or 6", "5"),  # and its first number: no listing of guesses
        (r"so \boxed{72}.", "72"),
        (r"\boxed{\frac{1}{2}}", "1/2"),
        (r"\boxed{-\dfrac{3}{4}} as we saw in step 2", "-3/4"),
        ("The answer is 1,234.50.", "1234.5"),
        ("Answer: 3\nThat took 20 minutes", "3"),
        ("the answer is:\n 3", "3"),
        ("$18", "18"),
        ("-$18", "-18"),
        ("$-18", "-18"),
        ("x=-7", "-7"),
        ("−4", "-4"),
        ("10-3=7", "7"),
        ("3-5", "5"),  # a subtraction, not a sign
        ("1, 2, 3", "3"),
        ("3/4.", "3/4"),
        ("1,000,000.25", "1000000.25"),
        (".5", "1/2"),
        ("18km", "18"),
        ("50%", "50"),
        ("**42**", "42"),
        ("(7+12=19,19+5=24)24", "24"),
        ("2+3=", "3"),  # nothing is evaluated
        ("007", "7"),
        ("#### none\n7", None),  # what was announced holds no number
        ("no number", None),
        ("H2O", None),
        ("1e5", None),
        ("#### 3.0e2", None),  # no part of a number is taken for it
        ("1.5/2.5", None),
        ("12.5m2", None),
        ("2.5x10", None),
        (r"\boxed{1,\!234}", "1234"),
        ("1/0", None),
        ("٣", None),
        ("", None),
        ("__import__('os').system('x')", None),
        ("9" * (MAX_DIGITS + 1), None),
        ("9" * 10_000, None),  # beyond what Python's int reads
        ("1/" + "9" * 10_000, None),
    ],
)
def test_number_is_read_from_what_the_text_states(text, number):
    assert extract_number(text) == (None if number is None else Fraction(number))


@given(st.text() | st.text(alphabet="0123456789.,/-−+$#\\boxed{}frac answeris:\n"))
def test_no_text_makes_it_fail(text):
    number = extract_number(text)
    assert number is None or isinstance(number, Fraction)
    assert is_same_answer(text, text) in (True, False)


WORDS = st.text(alphabet=st.characters(categories=["L", "Zs"]))


@given(WORDS, st.integers(-(10**12), 10**12), st.integers(0, 6), WORDS)
def test_planted_number_is_found_whatever_words_stand_around_it(before, mantissa, decimals, after):
    number = Fraction(mantissa, 10**decimals)
    written = f"{Decimal(mantissa).scaleb(-decimals):,f}"
    assert extract_number(f"{before} {written} {after}") == number
    assert extract_number(f"1 + 2 {before}\n#### {written}\n{after} 77") == number
    assert extract_number(f"step 1: {before} \\boxed{{{written}}} {after} 77") == number


@given(st.fractions(max_denominator=10**6))
def test_planted_fraction_is_found(fraction):
    assert extract_number(f"It is {fraction}.") == fraction


def test_stated_answer_is_the_rest_of_the_line_or_what_the_braces_hold():
    assert stated_answer(r"\boxed{a \text{b} c} d") == r"a \text{b} c"
    assert stated_answer(r"\boxed{never closed") == "never closed"
    assert stated_answer("The final answer is: Paris!\nBye") == "Paris!"
    assert stated_answer("  nothing announced ") == "nothing announced"


@pytest.mark.parametrize(
    ("completion", "expected", "same"),
    [
        ("18.0", "18", True),
        ("$1,000", "1000", True),
        ("0.1", "1/10", True),
        ("0.3000000000000000001", "0.3", False),  # which floats call equal
        ("18 apples", "18", True),
        ("18", "18 apples", False),  # words were asked for
        ("the answer is  Two   Apples.", "two apples", True),
        ("two pears", "two apples", False),
        ("", "18", False),
        ("", "Paris", False),
        ("1 1/2", "1 1/2", True),  # a mixed number is compared by its words
    ],
)
def test_answers_are_equal_as_numbers_or_as_words(completion, expected, same):
    assert is_same_answer(completion, expected) is same
