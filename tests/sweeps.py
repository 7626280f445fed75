"""One look at a panel in every position of its controls. Tests get `sweep` as a fixture."""

import base64
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

STOPS_OF_A_RANGE = 21  # a slider with more positions than these is looked at in so many of them
MOST_COMBINATIONS = 250  # beyond these every control moves alone, and all of them together from end to end


class Shown(NamedTuple):
    """What a panel shows for one setting of its controls."""

    values: dict[str, Any]
    caption: str
    alt: str
    picture: str


def stops(control: Any) -> list[Any]:
    """The positions of a control: all options, both states, or an even choice of a range with both its ends."""
    if hasattr(control, "options"):
        options = control.options.items() if isinstance(control.options, Mapping) else control.options
        return [option[1] if isinstance(option, tuple) else option for option in options]
    if isinstance(control.value, bool):
        return [False, True]
    if hasattr(control, "min") and hasattr(control, "step"):
        steps = round((control.max - control.min) / control.step)
        chosen = sorted({round(k) for k in np.linspace(0, steps, min(steps + 1, STOPS_OF_A_RANGE))})
        positions = [min(control.min + k * control.step, control.max) for k in chosen]
        return [control.base**position for position in positions] if hasattr(control, "base") else positions
    raise ValueError(f"{type(control).__name__} '{control.description}' has no range: give samples for it")


def settings(choices: Sequence[Sequence[Any]], initial: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All combinations where they are few, else each control by itself and the corners of all."""
    if math.prod(map(len, choices)) <= MOST_COMBINATIONS:
        return list(itertools.product(*choices))
    alone = [(*initial[:k], value, *initial[k + 1 :]) for k, choice in enumerate(choices) for value in choice]
    return [*alone, *itertools.product(*((choice[0], choice[-1]) for choice in choices))]


def ink_on_the_edge(png: bytes) -> bool:
    """Whether anything reaches the border of the picture, as a text does that is cut off there."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    return any(edge.min() < 255 for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def look(panel: Any) -> Shown:
    """What the panel shows now, which must be no error and a picture with nothing cut off."""
    assert panel.status.text == "", f"at {panel.values} the status line says: {panel.status.text}"
    picture = re.search('src="data:image/png;base64,([^"]*)"', panel.picture.image.value).group(1)
    assert not ink_on_the_edge(base64.b64decode(picture)), f"at {panel.values} something is cut off at the border"
    return Shown(panel.values, panel.picture.caption_text, panel.picture.alt_text, picture)


def sweep(panel: Any, samples: Mapping[str, Sequence[Any]] | None = None, *, still: Sequence[str] = ()) -> list[Shown]:
    """Put the panel's controls to all their positions, and see that it draws, says what it draws, and comes back.

    Args:
        panel: a `Panel`.
        samples: values by the control's name, where a text field has no range, or to look at these only.
        still: names of controls that need change neither picture nor alt text: the caption alone follows them.

    Returns:
        What was shown, setting by setting.
    """
    first = look(panel)
    choices = [list((samples or {}).get(name) or stops(control)) for name, control in panel.controls.items()]
    shown = []
    for setting in settings(choices, list(panel.values.values())):
        for control, value in zip(panel.controls.values(), setting, strict=True):
            control.value = value
        shown.append(look(panel))
    for name, choice in zip(panel.controls, choices, strict=True):
        for part in ("caption",) if name in still else ("caption", "alt", "picture"):
            assert len(choice) < 2 or follows(shown, name, part), f"moving '{name}' never changes the {part}"
    panel.reset()
    assert look(panel) == first, "the Reset button does not bring the first picture back"
    return shown


def follows(shown: Sequence[Shown], name: str, part: str) -> bool:
    """Whether the caption, alt text or picture changes somewhere when this control alone moves."""
    seen: dict[str, set[str]] = {}
    for view in shown:
        others = repr([value for other, value in view.values.items() if other != name])
        seen.setdefault(others, set()).add(getattr(view, part))
    return any(len(variants) > 1 for variants in seen.values())
