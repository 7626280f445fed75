"""The cube of objectives as a table: exponent by clip's place by length weight, with the methods where they are."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch

from hmpo_lib.methods import Method
from hmpo_lib.objectives import Clip, LengthWeight

CLIP_PLACES: tuple[Clip | None, ...] = (None, *get_args(Clip))
LENGTH_WEIGHTS: tuple[LengthWeight, ...] = get_args(LengthWeight)

Cell = tuple[LengthWeight, Clip | None, float]


@dataclass(frozen=True)
class MethodCube:
    """Every cell of the cube with the names of its methods, as an HTML table.

    Attributes:
        exponents: the columns, rising.
        cells: by (length weight, clip's place, exponent), the names; an arrow after those whose p moves.
    """

    exponents: tuple[float, ...]
    cells: dict[Cell, tuple[str, ...]]

    @property
    def empty(self) -> int:
        """How many cells have no method."""
        return sum(not names for names in self.cells.values())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        summary = f"{len(self.cells)} cells, {self.empty} of them empty"
        lines = [
            f"length {weight}, clip {clip or 'none'}, p = {p:g}: {', '.join(names)}"
            for (weight, clip, p), names in self.cells.items()
            if names
        ]
        return {"text/html": self._table(summary), "text/plain": "\n".join([summary, *lines])}

    def _table(self, summary: str) -> str:
        names = [f"p = {p:g}".replace("-", "−") for p in self.exponents]
        heads = "".join(f'<th scope="col" style="text-align: center">{name}</th>' for name in names)
        rows = []
        for weight in LENGTH_WEIGHTS:
            first = f'<th scope="rowgroup" rowspan="{len(CLIP_PLACES)}">{weight}</th>'
            for place in CLIP_PLACES:
                entries = (html.escape(", ".join(self.cells[weight, place, p])) or "·" for p in self.exponents)
                cells = "".join(f'<td style="text-align: center">{entry}</td>' for entry in entries)
                rows.append(f'<tr>{first}<th scope="row">{place or "none"}</th>{cells}</tr>')
                first = ""
        head = f'<tr><th scope="col">length weight</th><th scope="col">clip</th>{heads}</tr>'
        return f"<table><caption>{summary}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def method_cube(methods: Mapping[str, Method]) -> MethodCube:
    """Place each method in its cell; a `·` is a cell without one. Where p moves, it is that of the first step.

    >>> from hmpo_lib import METHODS
    >>> method_cube(METHODS).cells["equal", "sequence", 0.0]
    ('gspo',)
    """
    first = {name: _first_exponent(method) for name, method in methods.items()}
    exponents = tuple(sorted(set(first.values())))
    cells: dict[Cell, tuple[str, ...]] = {
        (weight, place, p): () for weight in LENGTH_WEIGHTS for place in CLIP_PLACES for p in exponents
    }
    for name, method in methods.items():
        cell = (method.objective.length_weight, method.objective.clip, first[name])
        cells[cell] += (f"{name} →" if method.p_schedule else name,)
    return MethodCube(exponents, cells)


def _first_exponent(method: Method) -> float:
    """The exponent of a run's first step, of a good completion."""
    on_policy, ones = torch.zeros(1, 1), torch.ones(1)
    return float(torch.as_tensor(method.step_objective(0.0, on_policy, ones.view(1, 1), ones).p))
