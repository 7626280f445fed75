"""A question to answer before the figure is seen: a guess first makes the figure worth looking at."""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from hmpo_lib.teach.live import fast_mode
from hmpo_lib.teach.panels import Panel, Still, live_bundle

OPTIONS_CLASS = "hmpo-options"

# Toggle buttons are of one width and one line, and cut off whatever is longer.
OPTIONS_STYLE = f"""<style>
.{OPTIONS_CLASS} .widget-toggle-button {{
  width: auto; max-width: 100%; height: auto; padding: 4px 10px;
  white-space: normal; text-align: left; line-height: 1.4;
}}
.{OPTIONS_CLASS} .widget-toggle-button.mod-active {{ background: var(--jp-brand-color1, #1976d2); color: white; }}
</style>"""


class Prediction:
    """A question with options, whose answer stays hidden until the reader has chosen. Nothing is stored or graded.

    In fast mode the answer is shown at once. A page without a kernel has it folded away.
    """

    def __init__(self, question: str, options: Sequence[str], reveal: Panel[Any] | Still | str) -> None:
        self.choice = widgets.ToggleButtons(options=list(options), value=None)
        self.choice.add_class(OPTIONS_CLASS)
        self.chosen = widgets.HTML()
        self.widget = widgets.VBox(
            [widgets.HTML(OPTIONS_STYLE + _paragraph(f"<b>{html.escape(question)}</b>")), self.choice]
        )
        self._question = question
        self._reveal = reveal
        if fast_mode():
            self.show_answer()
        self.choice.observe(self._on_choice, names="value")

    @property
    def answered(self) -> bool:
        """Whether the answer is in sight."""
        return len(self.widget.children) > 2

    def show_answer(self) -> None:
        """Show what was hidden, below the options."""
        if not self.answered:
            if isinstance(self._reveal, str):
                answer = widgets.HTML(_paragraph(html.escape(self._reveal)))
            else:
                answer = self._reveal.widget
            self.widget.children = (*self.widget.children, self.chosen, answer)

    def _on_choice(self, change: Any) -> None:
        self.chosen.value = _paragraph(f"You chose: <b>{html.escape(self.choice.value)}</b>")
        self.show_answer()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        options = "".join(f"<li>{html.escape(option)}</li>" for option in self.choice.options)
        hidden = (
            html.escape(self._reveal) if isinstance(self._reveal, str) else self._reveal.static_bundle()["text/html"]
        )
        folded = (
            f'<div class="hmpo-prediction"><p><b>{html.escape(self._question)}</b></p><ul>{options}</ul>'
            f"<details><summary>Choose first, then open this.</summary>{hidden}</details></div>"
        )
        plain = f"{self._question} {' / '.join(self.choice.options)}"
        return live_bundle(self.widget, {"text/html": folded, "text/plain": plain})


def _paragraph(content: str) -> str:
    """HTML that may wrap: by itself the HTML widget sets its lines as far apart as buttons."""
    return f'<div style="line-height: 1.4">{content}</div>'


def predict(question: str, options: Sequence[str], reveal: Panel[Any] | Still | str) -> Prediction:
    """Ask before showing: `reveal` appears when one of the options is chosen.

    >>> predict("Is 2 + 2 more than 3?", ["yes", "no"], "Yes: it is 4.").answered
    False
    """
    return Prediction(question, options, reveal)
