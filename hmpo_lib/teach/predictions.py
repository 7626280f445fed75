"""A question to answer before the figure is seen: a guess first makes the figure worth looking at."""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.live import fast_mode
from hmpo_lib.teach.panels import Panel, live_bundle


class Prediction:
    """A question with options, whose answer stays hidden until the reader has chosen. Nothing is stored or graded.

    In fast mode the answer is shown at once. A page without a kernel has it folded away.
    """

    def __init__(self, question: str, options: Sequence[str], reveal: Panel[Any] | str) -> None:
        self.choice = widgets.ToggleButtons(options=list(options), value=None)
        self.widget = widgets.VBox([widgets.HTML(f"<b>{html.escape(question)}</b>"), self.choice])
        self._question = question
        self._reveal = reveal
        if fast_mode():
            self.show_answer()
        self.choice.observe(lambda change: self.show_answer(), names="value")

    @property
    def answered(self) -> bool:
        """Whether the answer is in sight."""
        return len(self.widget.children) > 2

    def show_answer(self) -> None:
        """Show what was hidden, below the options."""
        if not self.answered:
            answer = widgets.HTML(html.escape(self._reveal)) if isinstance(self._reveal, str) else self._reveal.widget
            self.widget.children = (*self.widget.children, answer)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        options = " / ".join(self.choice.options)
        hidden = (
            html.escape(self._reveal) if isinstance(self._reveal, str) else self._reveal.static_bundle()["text/html"]
        )
        folded = (
            f"<p><b>{html.escape(self._question)}</b> {html.escape(options)}</p>"
            f"<details><summary>Choose first, then open this.</summary>{hidden}</details>"
        )
        return live_bundle(self.widget, {"text/html": folded, "text/plain": f"{self._question} {options}"})


def predict(question: str, options: Sequence[str], reveal: Panel[Any] | str) -> Prediction:
    """Ask before showing: `reveal` appears when one of the options is chosen.

    >>> predict("Is 2 + 2 more than 3?", ["yes", "no"], "Yes: it is 4.").answered
    False
    """
    return Prediction(question, options, reveal)
