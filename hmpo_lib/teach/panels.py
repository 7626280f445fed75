"""The collection's one interactive pattern: controls, a picture of fixed size, a caption and a status line.

Computing, drawing and captions are plain functions that need no browser. A `Picture` joins a canvas with its caption
and alt text; a `Panel` redraws a picture whenever one of its controls moves.
"""

import html
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Generic, TypeVar

import ipywidgets as widgets

from hmpo_lib.teach.frames import Book, book_folder, choices_of, panel_figure
from hmpo_lib.teach.plotting import Canvas, data_url

D = TypeVar("D")

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

FIGURE_SPACE = "\u2007"  # as wide as a digit


def live_bundle(widget: Any, static: Mapping[str, Any]) -> dict[str, Any]:
    """The widget for a page with a kernel, beside what a page without one shows; a page of the book has no kernel."""
    if book_folder() is not None:
        return dict(static)
    # What a widget says of itself, written out: ipywidgets 7, which Colab has, gives no mimebundle to ask for.
    return {WIDGET_VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}, **static}


class Picture(Generic[D]):
    """A canvas with a caption and alt text that follow the data, as widgets and as plain HTML.

    Args:
        canvas: what `draw` draws on.
        draw: moves the canvas's artists to show the data.
        caption: one line under the picture, plain text, with the numbers that matter.
        alt: the picture in words, for those who cannot see it: what is drawn, before the caption's numbers; or a
            function of the data, where words must follow them.
    """

    def __init__(
        self, canvas: Canvas, draw: Callable[[D], None], caption: Callable[[D], str], alt: str | Callable[[D], str]
    ) -> None:
        self._canvas, self._draw, self._caption = canvas, draw, caption
        self._alt = (lambda data: f"{alt} {caption(data)}") if isinstance(alt, str) else alt
        self.image = widgets.HTML()
        self.caption = widgets.HTML()
        self.caption_text = ""
        self.alt_text = ""
        self._blank = True
        # JupyterLab delivers widget messages on a thread of their own while cells run on the main one.
        self._lock = threading.Lock()

    def show(self, data: D) -> None:
        """Draw the data and send picture and caption to the page."""
        with self._lock:
            self._draw(data)
            self._publish(self._caption(data), self._alt(data), blank=False)

    def clear(self, caption: str) -> None:
        """Show the empty axes alone, with this caption."""
        with self._lock:
            self._publish(caption, caption, blank=True)

    def _publish(self, caption: str, alt: str, *, blank: bool) -> None:
        self.caption_text, self.alt_text, self._blank = caption, alt, blank
        self.image.value = self._img()
        self.caption.value = html.escape(caption)

    def _img(self, *, small: bool = False) -> str:
        png = self._canvas.png(moving=not self._blank, small=small)
        # Decoding at once keeps the old picture from blinking out before the new one is there.
        return (
            f'<img alt="{html.escape(self.alt_text)}" width="{self._canvas.width}" height="{self._canvas.height}" '
            f'style="display: block" decoding="sync" src="{data_url(png)}">'
        )

    def background(self) -> Any:
        """Pixels of the empty axes; what the page shows stays as it is."""
        with self._lock:
            return self._canvas.pixels(moving=False)

    def snapshot(self, data: D) -> tuple[Any, str, str]:
        """Pixels, caption and alt text of the data; what the page shows stays as it is."""
        with self._lock:
            self._draw(data)
            return self._canvas.pixels(), self._caption(data), self._alt(data)

    def static_bundle(self, note: str = "") -> dict[str, Any]:
        """What a page shows that has no kernel: picture and caption as HTML, the caption as text; a note after both."""
        with self._lock:
            image = self._img(small=True)
            caption = f"{self.caption_text} ({note})" if note else self.caption_text
        figure = f'<figure style="margin: 0">{image}<figcaption>{html.escape(caption)}</figcaption></figure>'
        return {"text/html": figure, "text/plain": caption}


class Still:
    """A drawing that does not move, with its caption and alt text: an explanation rather than data.

    Args:
        canvas: what has been drawn on.
        caption: one line under it, plain text.
        alt: the drawing in words, for those who cannot see it.
    """

    def __init__(self, canvas: Canvas, *, caption: str, alt: str) -> None:
        self.picture: Picture[None] = Picture(canvas, lambda _: None, lambda _: caption, lambda _: alt)
        self.picture.show(None)
        # For a prediction that reveals it; by itself a page shows the picture without a kernel.
        self.widget = widgets.VBox([self.picture.image, self.picture.caption])

    def static_bundle(self) -> dict[str, Any]:
        """What every page shows, with a kernel or without."""
        return self.picture.static_bundle()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return self.static_bundle()


class StatusLine:
    """One line under a panel, empty unless something has to be said.

    Used as a context manager it shows whatever error leaves the block in place of raising it.
    """

    def __init__(self) -> None:
        self.widget = widgets.HTML()
        self.text = ""

    def say(self, text: str) -> None:
        """Show this text, or nothing."""
        self.text = text
        self.widget.value = html.escape(text)

    def __enter__(self) -> None:
        self.say("")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        # No cell calls a widget's callback: an error that leaves it goes to a log that no reader opens, and the panel
        # goes on showing the old picture. So every ordinary error ends here, in sight; KeyboardInterrupt passes.
        if isinstance(error, Exception):
            self.say(f"⚠ {type(error).__name__}: {error}")
            return True
        return False


class Panel(Generic[D]):
    """Controls over a picture; moving a control computes, draws and captions anew.

    The first picture is drawn at once, and it and `redraw` raise what goes wrong. Only the controls' callbacks catch
    errors, and show them in the status line.

    Args:
        controls: widgets with a `value`; each name is a keyword argument of `compute`.
        compute: the controls' values to the data that the picture shows.
        canvas, draw, caption, alt: see `Picture`.
        book: which stops the book's page has, where all of them are too many; see `choices_of`.
    """

    def __init__(
        self,
        controls: Mapping[str, Any],
        compute: Callable[..., D],
        canvas: Canvas,
        *,
        draw: Callable[[D], None],
        caption: Callable[[D], str],
        alt: str | Callable[[D], str],
        book: Book = MappingProxyType({}),
    ) -> None:
        self.controls = dict(controls)
        self.book = book
        self.picture = Picture(canvas, draw, caption, alt)
        self.status = StatusLine()
        self.reset_button = widgets.Button(description="Reset", tooltip="Put every control back to where it started")
        self.compute = compute
        self.initial = self.values
        if book:
            choices_of(self.controls, self.initial, book)  # says at once what is wrong with the stops
        self._resetting = False
        # From reading the controls to showing the picture: else the slower of two threads would show an older picture
        # last. Reentrant, since what draws may move a control.
        self._redrawing = threading.RLock()
        self.redraw()
        for control in self.controls.values():
            control.observe(self._on_change, names="value")
        self.reset_button.on_click(self._on_reset)
        first, *others = self.controls.values()
        rows = [widgets.HBox([first, self.reset_button]), *others]
        self.widget = widgets.VBox([*rows, self.picture.image, self.picture.caption, self.status.widget])

    @property
    def values(self) -> dict[str, Any]:
        """The controls' present values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Compute and show the picture for the present values."""
        with self._redrawing:
            self.picture.show(self.compute(**self.values))

    def reset(self) -> None:
        """Put every control back to where it started, and draw once."""
        self._resetting = True
        try:
            for name, value in self.initial.items():
                self.controls[name].value = value
        finally:
            self._resetting = False
        self.redraw()

    def _on_change(self, change: Any) -> None:
        if not self._resetting:
            with self._redrawing, self.status:
                self.redraw()

    def _on_reset(self, button: Any) -> None:
        with self._redrawing, self.status:
            self.reset()

    def static_bundle(self) -> dict[str, Any]:
        """What a page shows that has no kernel; in the book the controls that choose among frames, too."""
        static = self.picture.static_bundle()
        if (folder := book_folder()) is not None:
            static["text/html"] = panel_figure(self, static["text/html"], folder)
        return static

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return live_bundle(self.widget, self.static_bundle())


LONGEST_READOUT = 17  # characters of an option that fit to the right of a track: ipywidgets cuts off what is longer


def slider(kind: Callable[..., Any], description: str, **options: Any) -> Any:
    """A control in the collection's look: 60 % wide, its name in full, a picture at every move.

    >>> slider(widgets.FloatSlider, "step size", value=0.5, min=0.0, max=1.0).value
    0.5
    """
    options.setdefault("layout", widgets.Layout(width="60%"))
    control = kind(description=description, style={"description_width": "initial"}, continuous_update=True, **options)
    if isinstance(control, widgets.SelectionSlider):
        labels = [option[0] if isinstance(option, tuple) else str(option) for option in options["options"]]
        longest = max(len(label.strip(FIGURE_SPACE)) for label in labels)
        if longest > LONGEST_READOUT:
            _name_option_in_front(control, description, labels, longest)
    return control


def _name_option_in_front(control: Any, description: str, labels: Sequence[str], longest: int) -> None:
    """Shows the chosen option with the control's name, where there is room, and not behind the track."""

    def rename(change: Any) -> None:
        # Not the control's own `label`, which is empty as long as the first option is where it started.
        control.description = f"{description}: {labels[control.index].strip(FIGURE_SPACE)}"

    control.readout = False
    # Of a fixed width, so that the track does not jump under the pointer; most characters are narrower than this.
    control.style.description_width = f"{0.62 * (len(description) + 2 + longest):.1f}em"
    control.observe(rename, names="index")
    rename(None)


# The exponents that have a name: the mean's, and in brackets that of a method which takes it. Infinity cannot travel in
# a FloatSlider, and a name says more than a number.
P_NAMES = {
    -math.inf: "min",
    -1.0: "harmonic (HMPO)",
    0.0: "geometric (GSPO)",
    1.0: "arithmetic (GRPO)",
    math.inf: "max",
}
P_LABEL_WIDTH = 24  # characters of the longest label


def p_label(p: float) -> str:
    """How a reader sees this exponent: with its name where it has one.

    >>> p_label(-1.0), p_label(2.5), p_label(math.inf)
    ('harmonic (HMPO), p = −1', 'p = 2.5', 'max, p = +∞')
    """
    number = f"{p:g}".replace("-", "−").replace("inf", "∞")
    signed = f"+{number}" if p == math.inf else number
    return f"{P_NAMES[p]}, p = {signed}" if p in P_NAMES else f"p = {signed}"


def p_slider(*, value: float = -1.0, largest: float = 5.0, step: float = 0.25) -> Any:
    """A slider for the exponent from min over −largest..largest to max, with means and methods by name."""
    half = round(largest / step)
    # Rounded, since 3 · 0.1 is not the float 0.3 that one asks for.
    stops: Sequence[float] = [-math.inf, *(round(step * k, 10) for k in range(-half, half + 1)), math.inf]
    if value not in stops:
        raise ValueError(f"value = {value} is no stop here: take a multiple of {step} up to ±{largest}, or ±inf")
    # The track gives way to a longer label: spaces on both sides keep it, and the handle on it, from jumping.
    options = [(p_label(stop).center(P_LABEL_WIDTH, FIGURE_SPACE), stop) for stop in stops]
    return slider(widgets.SelectionSlider, "exponent", options=options, value=value)
