"""What a check says, and that nothing a reader writes makes it raise."""

import array
import html.parser
import json
import math
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmpo_lib.teach import check, checks
from hmpo_lib.teach.checks import exercise, plain, same, shown


@exercise(
    probes=[([3.0, 1.0],), ([2.0, 2.0, 8.0],)],
    mistakes={"That is the `sum` & no mean.": sum, "That is the largest.": max},
    insight="It lies between the smallest & the largest.",
)
def average(numbers):
    """The arithmetic mean of the numbers."""
    return sum(numbers) / len(numbers)  # not <b>the largest</b>


def test_stub_is_signature_task_and_dots_and_the_solution_is_the_rest():
    assert average.cell == (
        'def average(numbers):\n    """The arithmetic mean of the numbers."""\n    ...  # your code here\n\n\n'
        "check(average)"
    )
    assert average.solution_source == (
        "def average(numbers):\n    return sum(numbers) / len(numbers)  # not <b>the largest</b>\n"
    )


def test_right_answer_is_told_what_it_means_and_gets_no_solution():
    verdict = average.check(lambda numbers: torch.tensor(numbers).mean())  # float32, and a tensor
    assert verdict.right
    assert verdict.text == "✓ Right. It lies between the smallest & the largest."
    assert "<details>" not in verdict._repr_mimebundle_()["text/html"]


def returns_nothing(numbers):
    average.solution(numbers)


@pytest.mark.parametrize("answer", [returns_nothing, lambda numbers: ..., lambda numbers: None])
def test_unfinished_answer_is_not_called_wrong(answer):
    verdict = average.check(answer)
    assert not verdict.right
    assert verdict.text.startswith("Not written yet")


def test_known_mistake_gets_its_hint():
    assert average.check(lambda numbers: np.float64(sum(numbers))).text == "✗ Not yet. That is the `sum` & no mean."


def test_other_wrong_answer_is_told_the_first_probe_on_which_it_differs():
    verdict = average.check(lambda numbers: (numbers[0] + numbers[1]) / 2)
    assert verdict.text == "✗ Not yet. For `numbers = [2, 2, 8]` the function gives `2`, expected is `4`."


def test_answer_that_gives_nothing_on_some_probes_is_told_so():
    assert "`None`, expected is `4`" in average.check(lambda numbers: 2.0 if len(numbers) == 2 else None).text


def helper(numbers):
    return 1 / (len(numbers) - 2)


def divides_by_zero(numbers):
    return helper(numbers)


def test_error_is_told_by_type_message_and_the_readers_own_line_without_a_traceback():
    verdict = average.check(divides_by_zero)
    line = helper.__code__.co_firstlineno + 1
    assert verdict.text == (
        "✗ Not yet. The function stops with ZeroDivisionError: division by zero: "
        f"look at line {line} of the cell, `return 1 / (len(numbers) - 2)`."
    )


def test_long_error_message_is_cut():
    def fails(numbers):
        raise ValueError("x" * 5000)

    assert len(average.check(fails).text) < 500


def test_error_inside_a_library_is_told_by_the_line_that_called_it():
    verdict = average.check(lambda numbers: json.loads("no number"))
    assert "JSONDecodeError" in verdict.text
    assert 'json.loads("no number")' in verdict.text


class Unsayable(Exception):
    def __str__(self):
        raise RuntimeError("no saying")


class Hostile:
    """Raises whatever one does with it."""

    def __eq__(self, other):
        raise RuntimeError("no comparing")

    def __repr__(self):
        raise RuntimeError("no showing")

    __hash__ = None


def deep(numbers):
    return deep(numbers) + 1


def endless():
    inside = []
    inside.append(inside)
    return inside


def raising(error):
    def answer(numbers):
        raise error

    return answer


ANYTHING = [
    math.nan, math.inf, 10**5000, -(10**400), 1j, "", "3", b"3", True, print, int, torch.Tensor, object(), Hostile(),
    [], [None], [[]], {}, {"a": Hostile()}, set(), endless(), torch.tensor([]), torch.ones(2, 3), np.array(["a"]),
    torch.tensor(1.0, requires_grad=True), torch.eye(2).to_sparse(), torch.ones(2, device="meta"), iter(()),
]  # fmt: skip


@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
def test_check_never_raises_for_what_a_function_returns(value):
    assert average.check(lambda numbers: value).text.startswith("✗ Not yet.")


ERRORS = [ValueError(), Unsayable(), KeyError("x"), StopIteration(), MemoryError(), ExceptionGroup("g", [OSError()])]
NO_FUNCTIONS = ["average", None, 3, int, print, len, math.sqrt, torch.nn.Identity()]


@pytest.mark.parametrize("answer", [deep, lambda: 1, lambda a, b: 1, *map(raising, ERRORS), *NO_FUNCTIONS])
def test_check_never_raises_for_what_a_function_is_or_raises(answer):
    assert not average.check(answer).right


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers(),
        lambda part: st.lists(part, max_size=3) | st.tuples(part, part) | st.dictionaries(st.text(), part, max_size=2),
    )
)
def test_check_never_raises_for_plain_data(value):
    verdict = average.check(lambda numbers: value)
    assert not verdict.right
    assert len(verdict.text) < 400


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_and_exit_pass(error):
    with pytest.raises(error):
        average.check(raising(error()))


def test_function_that_spoils_its_arguments_does_not_spoil_the_check():
    def spoils(numbers):
        mean = sum(numbers) / len(numbers)
        numbers.clear()
        return mean

    assert average.check(spoils).right
    assert average.check(spoils).right


@pytest.mark.parametrize(
    ("answer", "said"), [(lambda numbers: 2, "No exercise is called `<lambda>`"), ("average", "`str` is no function"),
                         (divides_by_zero, "No exercise is called `divides_by_zero`"), (None, "`NoneType` is no")],
)  # fmt: skip
def test_a_lambda_and_a_renamed_stub_are_told_the_names_that_a_check_knows(answer, said):
    verdict = check(answer)
    assert not verdict.right
    assert said in verdict.text
    assert "keep the one of the cell. Here it is one of `" in verdict.text
    assert "`average`" in verdict.text


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(50_000_000), np.broadcast_to(0.0, (50_000, 1000)), [0.0] * 50_000_000,
        [[[0.0] * 30] * 30] * 30, array.array("d", bytes(8 * 10**6)), memoryview(bytes(10**6)), torch.zeros(100, 101),
        torch.ones(1, device="meta").expand(10**12),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_answer_of_too_many_elements_is_told_so_and_never_copied(value):
    tracemalloc.start()
    try:
        verdict = average.check(lambda numbers: value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert verdict.text.startswith("✗ Not yet. The function gives more than 10,000 elements")
    assert peak < 10**6  # bytes


@pytest.mark.parametrize("value", [dict.fromkeys(range(10**6)), set(range(10**6)), "x" * 10**7, bytes(10**7)], ids=type)
def test_what_is_large_otherwise_is_shown_in_part(value):
    assert len(average.check(lambda numbers: value).text) < 400


def loops(numbers):
    while True:
        pass


def loops_in_a_comprehension(numbers):
    return [0 for _ in iter(int, 1)]


def loops_and_takes_every_error(numbers):
    while True:
        try:
            len(numbers)
        except Exception:
            numbers = []


@pytest.mark.parametrize("answer", [loops, loops_in_a_comprehension, loops_and_takes_every_error])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_function_that_never_ends_is_stopped(monkeypatch, answer, in_thread):
    monkeypatch.setattr(checks, "SECONDS", 0.2)
    before = sys.gettrace()
    verdicts = []
    if in_thread:
        thread = threading.Thread(target=lambda: verdicts.append(average.check(answer)))
        thread.start()
        thread.join()
    else:
        verdicts.append(average.check(answer))
    assert verdicts[0].text.startswith("✗ Not yet. The function was not through after 0.2 seconds")
    assert sys.gettrace() is before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1.0), (True, torch.tensor(True)), (0.33333334, 1 / 3), ((1, 2), [1.0, 2.0]), (torch.tensor([0.1]), [0.1]),
        (np.array([[1, 2]]), [(1, 2)]), ("a", "a"), (math.inf, math.inf), (1e-9, 0.0), ([torch.tensor(1)], (1,)),
        (math.nan, math.nan),
    ],
)  # fmt: skip
def test_these_agree(given, expected):
    assert same(plain(given), plain(expected))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1.001, 1.0), (math.nan, 1.0), (1.0, math.nan), (math.nan, math.inf), ([1, 2], [1]), ([1], [1, 2]), ([1], 1),
            ("1", 1), (None, 0), (0.01, 0.0),
        (-1.0, 1.0), ([1, [2]], [1, [3]]), (math.inf, -math.inf), ("a", "A"),
    ],
)  # fmt: skip
def test_these_differ(given, expected):
    assert not same(plain(given), plain(expected))


def test_shown_value_is_short():
    assert shown(torch.tensor([1 / 3, 2.0, -1e-17])) == "[0.33333, 2, 0]"
    assert len(shown(list(range(1000)))) == 100


class Balanced(html.parser.HTMLParser):
    """Collects the text and checks that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("value", ["<b>", "a & b", "`", "``x``", "</details>", "$x$"])
def test_page_shows_the_text_as_it_is_whatever_is_in_it(value):
    bundle = average.check(lambda numbers: value)._repr_mimebundle_()
    page = Balanced()
    page.feed(bundle["text/html"])
    page.close()
    assert page.open == []
    assert repr(value).replace("`", "") in page.text.replace("`", "")
    assert average.solution_source in page.text
