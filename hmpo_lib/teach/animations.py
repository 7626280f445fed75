"""Pictures that move on a page without a kernel and without scripts: an animated PNG in an `<img>`.

A viewer that cannot play it shows its first frame, which is therefore the end: the story follows. A reader whose
system asks for less motion gets the last one, where the page keeps `<picture>`; JupyterLab drops it from pages that it
does not trust, and there the picture moves.
"""

import html
import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from PIL import Image

from hmpo_lib.teach.plotting import Canvas, data_url

D = TypeVar("D")

END_FIRST = 2000  # milliseconds
SHADES_APART = 17  # of 0..255, in each channel; black and white stay what they are


class Animation:
    """A canvas drawn frame by frame into one animated PNG, which plays a few times and then rests on its last frame.

    Args:
        canvas: what `draw` draws on.
        draw: moves the canvas's artists to show the data of one frame.
        frames: the data of each frame, and how many milliseconds it stays. Move slowly and wait long at the end.
        caption: one line under the picture.
        alt: the whole movement in words.
        plays: how often it plays.

    >>> canvas = Canvas(200, 100)
    >>> line = canvas.animate(canvas.figure.subplots().axvline(0.0))
    >>> moving = Animation(canvas, lambda x: line.set_xdata([x, x]), [(0.1, 500), (0.9, 2000)], caption="c", alt="a")
    >>> Image.open(io.BytesIO(moving.png)).n_frames  # the end, the start and the end
    3
    """

    def __init__(
        self,
        canvas: Canvas,
        draw: Callable[[D], None],
        frames: Sequence[tuple[D, int]],
        *,
        caption: str,
        alt: str,
        plays: int = 3,
    ) -> None:
        if len(frames) < 2:
            raise ValueError(f"got {len(frames)} frames: give at least two, or draw a still picture")
        self.caption, self.alt = caption, alt
        self._size = f'width="{canvas.width}" height="{canvas.height}"'
        ending, _ = frames[-1]
        frames = [(ending, END_FIRST), *frames]
        pictures = []
        for data, _ in frames:
            draw(data)
            picture = Image.open(io.BytesIO(canvas.png())).convert("RGB")
            # Fewer shades halve the file. Pillow's palettes would average near colours: white paper turns grey.
            pictures.append(picture.point(lambda shade: SHADES_APART * round(shade / SHADES_APART)))
        self.png = _saved(
            pictures[0],
            save_all=True,
            append_images=pictures[1:],
            duration=[milliseconds for _, milliseconds in frames],
            loop=plays,
        )
        self.last_frame = _saved(pictures[-1])

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        calm = f'<source media="(prefers-reduced-motion: reduce)" srcset="{data_url(self.last_frame)}">'
        image = f'<img alt="{html.escape(self.alt)}" {self._size} style="display: block" src="{data_url(self.png)}">'
        caption = html.escape(self.caption)
        figure = (
            f'<figure style="margin: 0"><picture>{calm}{image}</picture><figcaption>{caption}</figcaption></figure>'
        )
        return {"text/html": figure, "text/plain": self.caption}


def _saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, **options)
    return buffer.getvalue()
