"""Answers of two models to the same prompts, side by side."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hmpo_lib.lm.tasks import reward_correct


@dataclass(frozen=True)
class BeforeAfter:
    """A table with a row a prompt: what was answered before and after, and whether it was right.

    Attributes:
        prompts, before, after: as many of each.

    >>> print(BeforeAfter(["1+2="], ["4"], ["(1+2=3)3"])._repr_mimebundle_()["text/plain"])
    1+2=  before: ✗ 4  after: ✓ (1+2=3)3
    """

    prompts: Sequence[str]
    before: Sequence[str]
    after: Sequence[str]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Prompt and both answers, each with its mark."""

        def marked(prompt: str, answer: str) -> str:
            return f"{'✓' if reward_correct(prompt, answer) else '✗'} {answer}"

        return [
            (prompt, marked(prompt, before), marked(prompt, after))
            for prompt, before, after in zip(self.prompts, self.before, self.after, strict=True)
        ]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        left = 'style="text-align: left"'
        head = "".join(f'<th scope="col" {left}>{name}</th>' for name in ("prompt", "before", "after"))
        body = "".join(
            f"<tr>{''.join(f'<td {left}><code>{html.escape(cell)}</code></td>' for cell in row)}</tr>"
            for row in self.rows
        )
        plain = "\n".join(f"{prompt}  before: {before}  after: {after}" for prompt, before, after in self.rows)
        return {"text/html": f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "text/plain": plain}
