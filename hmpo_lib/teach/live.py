"""Long work in a notebook cell that stays alive: a picture after every step, and buttons that answer.

A blocking loop in a cell makes every button of the page dead until it ends. `LiveRun` steps a generator in a worker
thread instead and awaits each step, so that the kernel goes on handling messages. The cell's last line is

    records = await live.run()
"""

import asyncio
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import ipywidgets as widgets
from IPython.display import display

from hmpo_lib.teach.frames import MOST_FRAMES, Choice, Reel, book_folder
from hmpo_lib.teach.panels import Picture, StatusLine, live_bundle
from hmpo_lib.teach.plotting import Canvas

R = TypeVar("R")
T = TypeVar("T")

_IN_TRAINING: list[Any] = []  # the models of the runs in progress
_END: Any = object()  # what `next` gives when the steps are through: a StopIteration cannot travel through a future


def fast_mode() -> bool:
    """Whether `HMPO_FAST` asks for the short version of everything slow (the tests do). Nothing else reads it."""
    return os.environ.get("HMPO_FAST", "") not in ("", "0")


def sized(full: T, *, fast: T) -> T:
    """How large something slow is: ``full`` for a reader, ``fast`` for the tests.

    >>> sized(50, fast=2) in (50, 2)
    True
    """
    return fast if fast_mode() else full


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """Keeps other live runs from training the model meanwhile; None is no model."""
    if model in _IN_TRAINING:
        raise RuntimeError(
            "another live run trains this model, and two would spoil each other's steps: expected one at a time; stop "
            "that run, or wait for its end, or load a model of its own for this one."
        )
    held = [] if model is None else [model]
    _IN_TRAINING.extend(held)
    try:
        yield
    finally:
        for one in held:
            _IN_TRAINING.remove(one)


class LiveRun(Generic[R]):
    """A generator of records, stepped in a worker thread, with its picture and Pause, Continue and Stop.

    Buttons and methods take effect when the present step is through. After the end, a stop or an error, `run` starts
    anew: `steps` is called again.

    Args:
        steps: makes the iterator of records, one a step. It runs in the worker thread, where the main thread's
            `torch.no_grad()` does not reach.
        total: how many records a full run gives.
        canvas, draw, caption, alt: see `Picture`; they get all records so far, at least one.
        model: what the steps train, if it is given to them: no two runs train one model at a time.
    """

    def __init__(
        self,
        steps: Callable[[], Iterator[R]],
        *,
        total: int,
        canvas: Canvas,
        draw: Callable[[Sequence[R]], None],
        caption: Callable[[Sequence[R]], str],
        alt: str | Callable[[Sequence[R]], str],
        model: Any = None,
    ) -> None:
        self.total = total
        self.records: list[R] = []
        self.picture: Picture[Sequence[R]] = Picture(canvas, draw, caption, alt)
        self.status = StatusLine()
        self.pause_button = widgets.Button(description="Pause", icon="pause")
        self.stop_button = widgets.Button(description="Stop", icon="stop")
        self.progress = widgets.IntProgress(max=total)
        self._steps = steps
        self._model = model
        self._loop: asyncio.AbstractEventLoop | None = None  # of the run in progress
        self._going = asyncio.Event()
        self._stopping = False
        self._reel: Reel | None = None  # the run's pictures, while the book is built, and of which steps they are
        self._reel_steps: list[int] = []
        self.pause_button.on_click(lambda button: self._tell(self._turn_pause))
        self.stop_button.on_click(lambda button: self.stop())
        bar = widgets.HBox([self.pause_button, self.stop_button, self.progress, self.status.widget])
        self.widget = widgets.VBox([bar, self.picture.image, self.picture.caption])

    async def run(self) -> list[R]:
        """Take the steps one by one, draw each record, and return the records when they end or are stopped.

        What the steps raise is raised here, in the cell. Interrupting the kernel lets the present step end, drops its
        record and breaks the run off; nothing goes on in the background.

        Raises:
            RuntimeError: this run is in progress, or another one that trains the same model.
        """
        if self._loop is not None:
            raise RuntimeError("this run is in progress: stop it before starting it again")
        self._loop = asyncio.get_running_loop()
        self._going, self._stopping, self.records = asyncio.Event(), False, []
        self._going.set()
        self._show_state()
        self._reel = Reel(self.picture.background()) if book_folder() is not None else None
        self._reel_steps = []
        self.picture.clear(f"Waiting for the first of {self.total} steps.")
        output = display(self, display_id=True)  # None outside of a notebook
        outcome = "broken off"
        try:
            with _alone(self._model), ThreadPoolExecutor(max_workers=1, thread_name_prefix="live-run") as worker:
                await self._take_steps(worker)
            outcome = "stopped" if self._stopping else "finished"
        finally:
            self._loop = None
            self._show_state(outcome)
            if output is not None:
                output.update(self)
        return self.records

    async def _take_steps(self, worker: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        steps = await loop.run_in_executor(worker, self._steps)
        try:
            while not self._stopping:
                record = await loop.run_in_executor(worker, next, steps, _END)
                if record is _END:
                    break
                self.records.append(record)
                self.picture.show(self.records)
                self._record()
                self._show_state()
                await self._going.wait()
        finally:
            # In the worker, since a generator cannot be closed while a step of it runs: this waits for that step.
            if isinstance(steps, Generator):
                await loop.run_in_executor(worker, steps.close)

    def pause(self) -> None:
        """Wait after the present step; may be called from any thread."""
        self._tell(self._going.clear)

    def resume(self) -> None:
        """Go on after a pause; may be called from any thread."""
        self._tell(self._going.set)

    def stop(self) -> None:
        """End the run after the present step and keep its records; may be called from any thread."""
        self._tell(self._stop)

    def _tell(self, change: Callable[[], None]) -> None:
        # JupyterLab may deliver a click on a thread of its own, while the run's loop, its event and its widgets belong
        # to the main thread: so every change is handed to the loop.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._apply, change)

    def _apply(self, change: Callable[[], None]) -> None:
        if self._loop is not None:  # the run may have ended since the click
            change()
            self._show_state()

    def _turn_pause(self) -> None:
        if self._going.is_set():
            self._going.clear()
        else:
            self._going.set()

    def _stop(self) -> None:
        self._stopping = True
        self._going.set()

    def _show_state(self, outcome: str = "") -> None:
        paused = not self._going.is_set()
        self.pause_button.description = "Continue" if paused else "Pause"
        self.pause_button.icon = "play" if paused else "pause"
        self.pause_button.disabled = self.stop_button.disabled = bool(outcome) or self._stopping
        self.progress.value = len(self.records)
        state = outcome or ("stopping" if self._stopping else "paused" if paused else "running")
        self.status.say(f"{state}: {len(self.records)} of {self.total}")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        # When the run is over its buttons are dead: the last picture alone stays, on every viewer, kernel or not. The
        # book has its other pictures, too.
        static = self.picture.static_bundle(note=self.status.text)
        if self._loop is not None:
            return live_bundle(self.widget, static)
        folder = book_folder()
        if folder is not None and self._reel is not None and self._reel.order:
            steps = [f"{step} of {self.total}" for step in self._reel_steps]
            choice = Choice("step", "range", steps, [{}] * len(steps), len(steps) - 1)
            static["text/html"] = self._reel.figure(static["text/html"], [choice], folder, play=True)
        return static

    def _record(self) -> None:
        """Keeps the picture of this step for the book, of a long run every second or third."""
        every = math.ceil(self.total / MOST_FRAMES)
        step = len(self.records)
        if self._reel is not None and (step % every == 0 or step in (1, self.total)):
            self._reel.add(*self.picture.snapshot(self.records))
            self._reel_steps.append(step)
