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
        ("#### 5 or 6", None),  # no listing of guesses
        (r"so \boxed{72}.", "72"),
        (r"\boxed{\frac{1}{2}}", "1/2"),
        (r"\boxed{-\dfrac{3}{4}} as we saw in step 2", "-3/4"),
        ("The answer is 1,234.50.", "1234.5"),
        ("The answer is 15.0, I think.", "15"),
        ("Answer: 3\nThat took 20 minutes", "3"),
        ("the answer is:\n 3", "3"),
        ("$18", "18"),
        ("-$18", "-18"),
        ("$-18", "-18"),
        ("x=-7", "-7"),
        ("−4", "-4"),
        ("10-3=7", "7"),
        ("3-5", None),  # a subtraction, not a sign
        ("1, 2, 3", "3"),
        ("3/4.", "3/4"),
        ("1,000,000.25", "1000000.25"),
        (".5", "1/2"),
        ("18km", "18"),
        ("50%", "50"),
        ("**42**", "42"),
        ("(7+12=19,19+5=24)24", "24"),
        ("2+3=", None),  # nothing is evaluated
        ("007", "7"),
        ("#### none\n7", None),  # what was announced holds no number
        ("no number", None),
        ("H2O", None),
        ("1e5", "100000"),
        ("1.5/2.5", None),  # no part of a number is taken for it
        ("12.5m2", "12.5"),
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


# Of each kind what is read, and beside it what looks alike and is not.
KINDS = {
    "power": [(r"\boxed{10^{6}}", None), ("#### 5^2", None), (r"\boxed{5²}", None), ("It is 2^5", None)],
    "scientific notation": [
        ("#### 1.5e-3", "3/2000"), (r"\boxed{3 \times 10^{5}}", "300000"), ("3 × 10^5 km", "300000"),
        (r"\boxed{2.5\cdot10^{-3}}", "1/400"), ("#### 3e5e2", None), ("1e999999999", None), ("1/2e5", None),
    ],
    "fraction": [
        (r"\boxed{\frac{-3}{4}}", "-3/4"), (r"\boxed{\frac{3}{-4}}", "-3/4"), (r"\boxed{-\frac34}", "-3/4"),
        (r"\boxed{\frac12}", "1/2"), (r"\boxed{\frac1{2}}", "1/2"), (r"\boxed{\tfrac{1}2}", "1/2"),
        (r"\boxed{\frac123}", None), (r"\boxed{\frac{\sqrt{3}}{2}}", None), ("Answer: 3 / 4", None), ("#### 3/0", None),
    ],
    "mixed number": [
        ("#### 3 1/2", "7/2"), ("#### -3 1/2", "-7/2"), (r"\boxed{3\frac12}", "7/2"), ("#### 3 7/2", None),
        ("#### 3½", None), ("#### 3 and 1/2", None),
    ],
    "root": [(r"\boxed{3\sqrt{2}}", None), (r"\boxed{\sqrt2}", None), (r"3\sqrt2", None), ("square root of 5", None)],
    "operator": [
        ("The answer is 3 + 4 = 7", "7"), ("The answer is 3 + 4", None), ("The answer is 2*5", None), ("2**5", None),
        ("The answer is 3 - 5", None), ("x -5", None), ("The answer is - 5", "-5"), ("x = - 7", "-7"),
        ("Sum:\n- 5", None), (r"\boxed{\pm 5}", None), (r"\boxed{x \geq 5}", None), ("#### x > 5", None),
        (r"\boxed{|5|}", None),
    ],
    "factorial": [("The answer is 5!", None), ("It is 5!", None), ("The answer is 5 apples!", "5")],
    "time": [("The answer is 12:30", None), ("Come at 12:30", None), ("#### 12 h", "12")],
    "date": [("#### 12/25/2020", None), ("on 1.2.2020", None)],
    "ratio": [("The answer is 2:3", None), (r"\boxed{2 : 3}", None), ("The ratio: 2", "2")],
    "several numbers": [
        (r"\boxed{5, 6}", None), (r"\boxed{(3, 4)}", None), (r"\boxed{x=5, y=6}", None), ("#### 5 of 6", None),
        (r"\boxed{x = 5 \text{ or } x = 6}", None), ("The answer is 5 (x = 3)", None), ("The answer is 3. 4", None),
    ],
    "function": [
        ("#### f(5)", None), ("#### max(5)", None), ("#### log_2 8", None), ("#### log 8", None), ("#### (5)", "5"),
    ],
    "variable": [(r"\boxed{3x}", None), (r"\boxed{3x^2}", None), (r"\boxed{2\pi}", None), ("#### 3 i", None)],
    "equation": [(r"\boxed{x=5}", "5"), ("The answer is π ≈ 3.14", "3.14"), ("#### 5 + x = 7 - 2", None)],
    "words": [
        ("The answer is 5, because 2 + 2 = 4", "5"), ("The answer is 5. I used 2 and 3.", "5"), ("#### 18 a day", "18"),
        ("The answer is not 5", None), ("The answer is 5 million", None), ("negative 5", None),
        ("#### 5 squared", None), ("#### 5 dozen", None),
    ],
    "unit": [
        (r"\boxed{5\text{ cm}^2}", "5"), ("#### 5 m/s^2", "5"), ("#### 5 miles/hour", "5"), (r"\boxed{90^\circ}", "90"),
        ("The answer is 5%.", "5"), (r"\boxed{28\%}", "28"), ("#### 5k", None), ("#### 5/x", None),
    ],
    "digits in groups": [
        (r"\boxed{1{,}234}", "1234"), (r"\boxed{1\,234}", "1234"), ("The answer is 1 000", "1000"),
        ("1\u202f000", "1000"),
        ("#### 1,23", None), ("1,23", None), ("1.234,56", None), ("#### 1_000", None), ("#### 0.333...", None),
    ],
    "currency": [(r"\boxed{\$18}", "18"), ("$18$", "18"), ("US$5", "5"), ("#### --18", None)],
    "Markdown": [("**Answer:** **5**", "5"), ("The answer is **42**!", "42"), ("<answer>5</answer>", "5")],
    "box": [
        (r"\boxed{12", None), (r"\boxed{5} and \boxed{6", None), (r"$\boxed 5$", "5"), (r"\boxed{\{5\}}", None),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_of_each_kind_of_number_what_cannot_be_read_as_a_whole_is_not_read_in_part(kind):
    read = {text: extract_number(text) for text, _ in KINDS[kind]}
    assert read == {text: None if number is None else Fraction(number) for text, number in KINDS[kind]}


SHAPES = [
    "9",
    "1,111",
    "1 111 ",
    "1.",
    "1/",
    " ",
    "\n",
    r"\boxed{",
    r"\text{",
    r"\frac{1",
    "a ^ ",
    "^ {",
    "*",
    "=",
    "five ",
]
SHAPES += ["answer is 1 ", "(", "$", "3 x 10", "1e1", ". ", "<a", "m2 ", "a  ", " or 5 =", "_5", "a1", "12 "]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_of_fifty_thousand_characters_is_judged_too(shape):
    # In quadratic time each of these would take half a minute.
    for before, after in (("", ""), ("#### ", " 5"), ("5", "x5")):
        text = before + shape * (50_000 // len(shape)) + after
        assert not is_same_answer(text, "7")
        assert not is_same_answer(text, "seven")


@given(st.text() | st.text(alphabet="0123456789.,/-−+$#\\boxed{}frac answeris:\n"))
def test_no_text_makes_it_fail(text):
    number = extract_number(text)
    assert number is None or isinstance(number, Fraction)
    assert is_same_answer(text, text) in (True, False)


WORDS = st.lists(st.sampled_from(["it", "costs", "apples", "and", "Äpfel", "яблок", "dollars.", "(so)"])).map(" ".join)


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
    assert stated_answer(r"\boxed{never closed") == ""
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
        ("1.5", "1 1/2", True),
        ("12:30", "12", False),
        ("The answer is 12:30.", "12:30", True),  # what is no number is compared by its words
        (r"\boxed{2 : 3}", "2:3", True),
        (r"\boxed{\text{E}}", "E", True),
        (r"\boxed{3 \sqrt{2}}", r"3\sqrt{2}", True),
        (r"\boxed{28\%}", "28%", True),
        ("28", "28%", True),  # a percent sign is a unit
        ("0.28", "28%", False),
        (r"\boxed{0.75}", r"\frac{3}{4}", True),
    ],
)
def test_answers_are_equal_as_numbers_or_as_words(completion, expected, same):
    assert is_same_answer(completion, expected) is same
