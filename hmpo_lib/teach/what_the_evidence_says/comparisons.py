"""What the plan compares: docs/evidence_plan.md's families of comparisons as a table."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hmpo_lib.teach.what_the_evidence_says.cells import Cell, Exponents
from hmpo_lib.teach.what_the_evidence_says.plan import (
    FIVE,
    FIXED,
    GEOMETRIC,
    HALVES,
    OPTIMISTIC,
    ORDINARY,
    PESSIMISTIC,
    PUBLISHED,
    SEVEN,
    cell_of,
    label,
    lagging,
    larger,
    often,
    published_cell,
    tuned_cells,
)


class Comparison(NamedTuple):
    """A pair of cells that the plan compares; the difference is first minus other."""

    label: str
    first: Cell
    other: Cell


def _against_geometric(
    make: Callable[[Exponents], Cell], exponents: Sequence[Exponents], *, more: bool = True
) -> list[Comparison]:
    """Each other exponent with p = 0; and what the plan adds to that."""
    pairs = [(e, GEOMETRIC) for e in exponents if e != GEOMETRIC]
    if more:
        pairs += [(PESSIMISTIC, FIXED[3]), (FIXED[3], FIXED[1])]
    return [Comparison(_minus(e, other), make(e), make(other)) for e, other in pairs]


def _minus(first: Exponents, other: Exponents) -> str:
    return f"p = {label(first)} minus p = {label(other)}"


def _cells(family: str) -> Callable[[Exponents], Cell]:
    return functools.partial(cell_of, family)


def _three_fixed(make: Callable[[Exponents], Cell]) -> list[Comparison]:
    """The comparisons among p = -1, 0 and 1."""
    return [
        *_against_geometric(make, FIXED[1:4], more=False),
        Comparison(_minus(FIXED[3], FIXED[1]), make(FIXED[3]), make(FIXED[1])),
    ]


def _two_signs(make: Callable[[Exponents], Cell]) -> list[Comparison]:
    """What is left of six, then: both signs with 0, and -sign(A) with 1."""
    return [
        *_against_geometric(make, [PESSIMISTIC, OPTIMISTIC], more=False),
        Comparison(_minus(PESSIMISTIC, FIXED[3]), make(PESSIMISTIC), make(FIXED[3])),
    ]


COMPARISONS: dict[str, list[Comparison]] = {
    **{family: _against_geometric(_cells(family), SEVEN) for family in ("no_clip", "sequence_clip")},
    "token_clip": _against_geometric(_cells("token_clip"), [FIXED[1], OPTIMISTIC], more=False),
    "token_clip_more": [
        *_against_geometric(_cells("token_clip"), [FIXED[3]], more=False),
        Comparison(_minus(FIXED[3], FIXED[1]), _cells("token_clip")(FIXED[3]), _cells("token_clip")(FIXED[1])),
    ],
    "token_clip_far": [
        *_against_geometric(_cells("token_clip"), [FIXED[0], FIXED[4], PESSIMISTIC], more=False),
        Comparison(_minus(PESSIMISTIC, FIXED[3]), _cells("token_clip")(PESSIMISTIC), _cells("token_clip")(FIXED[3])),
    ],
    "twins": [Comparison("p = 0, one rounding away, minus p = 0", Cell(GEOMETRIC, twin=True), Cell(GEOMETRIC))],
    **{
        family: _against_geometric(Cell, [Exponents(*pair) for pair in pairs], more=False)
        for family, pairs in (("halves", HALVES[:2]), ("halves_again", HALVES[2:]))
    },
    "published": [
        *(
            Comparison(f"p = −sign A without a clip minus {name.upper()}", Cell(PESSIMISTIC), published_cell(name))
            for name in PUBLISHED[:4]
        ),
        Comparison(
            "p = −sign A without a clip minus p = 0, tokens clipped",
            Cell(PESSIMISTIC),
            Cell(GEOMETRIC, "token", ORDINARY),
        ),
    ],
    **{
        family: _against_geometric(_cells(family), FIVE)
        for family in ("in_the_head", "muon", "calibrated_answers", "calibrated_more_answers")
    },
    **{family: _three_fixed(_cells(family)) for family in ("calibrated", "calibrated_more", "bad_alone", "good_alone")},
    "reuse_again": [
        *_against_geometric(often, [*FIXED[1:], PESSIMISTIC]),
        Comparison(_minus(PESSIMISTIC, FIXED[1]), often(PESSIMISTIC), often(FIXED[1])),
    ],
    "tuned": [
        *_against_geometric(_cells("tuned"), SEVEN)[:7],
        *(
            Comparison(
                f"p = −sign A without a clip minus {name.upper()}", _cells("tuned")(PESSIMISTIC), tuned_cells()[name]
            )
            for name in ("grpo", "gspo", "gmpo")
        ),
    ],
    "lag": _three_fixed(lagging),
    **{
        f"{family}_{rest}": _two_signs(_cells(family))
        for family, rest in (("lag", "more"), ("calibrated", "signs"), ("calibrated_more", "signs"))
    },
    "on_policy": _against_geometric(_cells("on_policy"), FIVE, more=False),
    "larger_model": _against_geometric(larger, FIVE),
    "larger_model_clip": [
        *_against_geometric(_cells("larger_model_clip"), [*FIXED[1:4], OPTIMISTIC], more=False),
        Comparison(_minus(FIXED[3], FIXED[1]), larger(FIXED[3], clipped=True), larger(FIXED[1], clipped=True)),
    ],
}
