"""A panel on a page without a kernel: while the book is built, every picture that its controls can reach is drawn.

`HMPO_BOOK` names the folder for the frames; nothing else asks for them. A frame holds only the pixels in which it
differs from the canvas's background, without loss. `book/frames.js` puts native controls beside the picture and
chooses among the frames; without JavaScript the page shows the still.
"""

import base64
import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

MOST_FRAMES = 120  # of a panel: about a megabyte
FEWEST_STOPS = 3  # of a slider, below which its author has to choose
MOST_BUTTONS = 6  # of a choice; a longer one becomes a list
EFFORT = 4  # of WebP, 0 to 6
SPACES = "\u2007 "  # with which labels are kept from jumping

Book = Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]]]


def book_folder() -> Path | None:
    """Where the frames go, while the book is built; otherwise None."""
    folder = os.environ.get("HMPO_BOOK", "")
    return Path(folder) if folder else None


class Choice(NamedTuple):
    """One control of the page: what it is called, its stops in words, what each sets, and where it starts."""

    label: str
    kind: str  # range, radio or list
    stops: list[str]
    settings: list[dict[str, Any]]
    start: int
    titled: bool = True  # whether the label is seen, or only heard


class Reel:
    """Pictures of one canvas with their captions and alt texts; equal pictures are stored once.

    Args:
        background: `[height, width, 3]` bytes of what every frame lies on.
    """

    def __init__(self, background: Any) -> None:
        self._background = background
        self._frames: dict[bytes, str] = {}
        self.order: list[int] = []
        self.captions: list[str] = []
        self.alts: list[str] = []

    def add(self, pixels: Any, caption: str, alt: str) -> None:
        """One more picture, as `[height, width, 3]` bytes."""
        same = (pixels == self._background).all(2, keepdims=True)
        over = np.where(same, 0, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])).astype(np.uint8)
        key = hashlib.sha256(over.tobytes()).digest()
        if key not in self._frames:
            self._frames[key] = _webp(over)
        self.order.append(list(self._frames).index(key))
        self.captions.append(caption)
        self.alts.append(alt)

    def figure(
        self, still: str, choices: Sequence[Choice], folder: Path, *, fixed: str = "", play: bool = False
    ) -> str:
        """Write the frames into the folder, and mark the still's `<figure>` with their name.

        Args:
            still: the `<figure>` of a page without JavaScript.
            choices: the controls; the last one moves fastest through the pictures.
            folder: where the script with the frames goes; its name is its content's.
            fixed: what is said of the controls that do not move here.
            play: offer a button that runs through the last control's stops.
        """
        assert math.prod(len(choice.stops) for choice in choices) == len(self.order)
        data = {
            "controls": [
                {key: value for key, value in choice._asdict().items() if key != "settings"} for choice in choices
            ],
            "fixed": fixed,
            "play": play,
            "background": _webp(self._background),
            "frames": list(self._frames.values()),
            "order": self.order,
            "captions": self.captions,
            "alts": self.alts,
        }
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.js").write_text(f'hmpoFrames["{name}"]={text};', encoding="utf-8")
        assert still.startswith("<figure ")
        return still.replace("<figure ", f'<figure class="hmpo-frames" data-frames="{name}" ', 1)


def panel_figure(panel: Any, still: str, folder: Path) -> str:
    """A panel's still, with frames behind it for all that its controls can reach in the book.

    Args:
        panel: a `Panel`.
        still: what the page shows without JavaScript.
        folder: see `book_folder`.
    """
    choices, fixed = choices_of(panel.controls, panel.initial, panel.book)
    if not choices:
        return still
    reel = Reel(panel.picture.background())
    for settings in itertools.product(*(choice.settings for choice in choices)):
        values = dict(panel.initial)
        for setting in settings:
            values |= setting
        reel.add(*panel.picture.snapshot(panel.compute(**values)))
    panel.redraw()
    return reel.figure(still, choices, folder, fixed=fixed)


def choices_of(controls: Mapping[str, Any], initial: Mapping[str, Any], book: Book) -> tuple[list[Choice], str]:
    """The controls of the page, and what is to be said of those that do not move there.

    Args:
        controls: the panel's widgets by name.
        initial: their values at the start, one stop each of the page's controls.
        book: stops by the control's name; or, under a name of its own, settings of several controls at once by
            example. A control that is not named keeps all its stops, or as many as leave `MOST_FRAMES` pictures.

    Raises:
        ValueError: a name that is no control, a value that a control cannot take, or more than `MOST_FRAMES` pictures
            however few stops the sliders keep.
    """
    named: dict[str, Choice] = {}
    for name, stops in book.items():
        if isinstance(stops, Mapping):
            named[name] = _examples(name, stops, controls, initial)
        elif name in controls:
            named[name] = _choice(name, controls[name], [(_stop_label(controls[name], v), v) for v in stops], initial)
        else:
            raise ValueError(f"book has stops for {name!r}: expected a control, one of {', '.join(controls)}")
    held = {name for choice in named.values() for setting in choice.settings for name in setting}
    free = {}
    for name, control in controls.items():
        if name not in held and (every := _all_stops(control)) is not None:
            free[name] = _choice(name, control, every, initial)
    moving = [choice for choice in _fit(named, free) if len(choice.stops) > 1]
    order = list(controls)
    moving.sort(key=lambda choice: min(order.index(name) for name in choice.settings[0]))
    moved = {name for choice in moving for setting in choice.settings for name in setting}
    fixed = [
        f"{_label(name, control)[0]} {_stop_label(control, initial[name])}"
        for name, control in controls.items()
        if name not in moved
    ]
    return moving, "; ".join(fixed)


def _label(name: str, control: Any) -> tuple[str, bool]:
    """What a control is called, and whether it says so itself; a long readout is part of its description."""
    shown = control.description.partition(": ")[0]
    return (shown, True) if shown else (name.replace("_", " "), False)


def _all_stops(control: Any) -> list[tuple[str, Any]] | None:
    """Every value that a control can take, with its label; None for one that takes anything, such as text."""
    if hasattr(control, "options"):
        pairs = (option if isinstance(option, tuple) else (str(option), option) for option in control.options)
        return [(str(label).strip(SPACES), value) for label, value in pairs]
    if hasattr(control, "step"):
        count = math.floor((control.max - control.min) / control.step + 1e-9)
        values = [control.min + k * control.step for k in range(count + 1)]
        # Rounded, since 3 · 0.1 is not the float 0.3 that the slider has.
        return [(_number(value), round(value, 10)) for value in values]
    return None


def _stop_label(control: Any, value: Any) -> str:
    """What one of a control's values is called."""
    stops = _all_stops(control)
    if stops is None:
        return str(value)
    if hasattr(control, "step") and control.min <= value <= control.max:
        return _number(value)
    for label, stop in stops:
        if stop == value:
            return label
    raise ValueError(f"book has {value!r}: expected one of {', '.join(label for label, _ in stops)}")


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _choice(name: str, control: Any, stops: Sequence[tuple[str, Any]], initial: Mapping[str, Any]) -> Choice:
    """The stops of one control; a slider stays one, other choices become buttons, or a list if they are many."""
    label, titled = _label(name, control)
    start = initial[name]
    if not any(_same(value, start) for _, value in stops):  # a panel may be opened anywhere
        stops = [*stops, (_stop_label(control, start), start)]
        if hasattr(control, "step"):
            stops = sorted(stops, key=lambda stop: stop[1])
    values = [value for _, value in stops]
    at = next(k for k, value in enumerate(values) if _same(value, start))
    slides = "Slider" in type(control).__name__
    kind = "range" if slides else "radio" if len(stops) <= MOST_BUTTONS else "list"
    return Choice(label, kind, [stop for stop, _ in stops], [{name: value} for value in values], at, titled)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and math.isfinite(one):
        return math.isclose(one, other, abs_tol=1e-9)
    return bool(one == other)


def _examples(
    name: str, examples: Mapping[str, Mapping[str, Any]], controls: Mapping[str, Any], initial: Mapping[str, Any]
) -> Choice:
    """Settings of several controls at once, by name; what an example leaves out is as the panel opens."""
    for example, setting in examples.items():
        if unknown := set(setting) - set(controls):
            raise ValueError(f"book's example {example!r} sets {sorted(unknown)}: expected some of {list(controls)}")
    settings = {example: dict(setting) for example, setting in examples.items()}
    held = {key for setting in settings.values() for key in setting}
    opening = {key: initial[key] for key in held}
    settings = {example: opening | setting for example, setting in settings.items()}
    if opening not in settings.values():  # a panel may be opened anywhere
        settings = {"as it opens": opening, **settings}
    kind = "radio" if len(settings) <= MOST_BUTTONS else "list"
    return Choice(name, kind, list(settings), list(settings.values()), list(settings.values()).index(opening))


def _fit(named: Mapping[str, Choice], free: Mapping[str, Choice]) -> list[Choice]:
    """At most `MOST_FRAMES` pictures: the longest slider without named stops loses every other until they fit."""
    fitted = {**named, **free}
    while math.prod(len(choice.stops) for choice in fitted.values()) > MOST_FRAMES:
        sliders = [name for name in free if fitted[name].kind == "range" and len(fitted[name].stops) > FEWEST_STOPS]
        if not sliders:
            stops = " × ".join(f"{choice.label} {len(choice.stops)}" for choice in fitted.values())
            raise ValueError(
                f"this panel has too many pictures for the book: {stops}. Expected at most {MOST_FRAMES}: give "
                "`book` fewer stops of some control, or one, and it stands still."
            )
        longest = max(sliders, key=lambda name: len(fitted[name].stops))
        fitted[longest] = _thin(fitted[longest])
    return list(fitted.values())


def _thin(choice: Choice) -> Choice:
    """Half the stops, evenly, the ends and the start among them."""
    count = len(choice.stops)
    half = max(FEWEST_STOPS, (count + 1) // 2)
    keep = {round(k * (count - 1) / (half - 1)) for k in range(half)} | {choice.start}
    # The start takes the place of its neighbour, so that thinning ends.
    if len(keep) > half:
        keep.remove(min(keep - {0, count - 1, choice.start}, key=lambda k: abs(k - choice.start)))
    order = sorted(keep)
    return choice._replace(
        stops=[choice.stops[k] for k in order],
        settings=[choice.settings[k] for k in order],
        start=order.index(choice.start),
    )


def _webp(pixels: Any) -> str:
    """The pixels without loss, as a `data:` URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", lossless=True, method=EFFORT)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
