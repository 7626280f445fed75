"""Live runs with fake steps: what the buttons do, what is returned, and what stays on the page."""

import asyncio
import threading
import time

import pytest
import torch

from hmpo_lib.teach import Canvas, LiveRun, fast_mode

VIEW = "application/vnd.jupyter.widget-view+json"
STEP_SECONDS = 0.01


class FakeSteps:
    """Makes generators that count, and remembers what became of them."""

    def __init__(self, total, *, fail_at=None):
        self.total, self.fail_at = total, fail_at
        self.started = self.closed = 0
        self.threads = set()

    def __call__(self):
        self.started += 1
        try:
            for k in range(self.total):
                self.threads.add(threading.current_thread().name)
                time.sleep(STEP_SECONDS)
                if k == self.fail_at:
                    raise FloatingPointError(f"step {k} is not finite")
                yield k
        finally:
            self.closed += 1


def make(steps, *, total=None, draw=None, model=None):
    canvas = Canvas(200, 100)
    axes = canvas.figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    line = canvas.animate(axes.plot([], [])[0])
    return LiveRun(
        steps,
        total=total or steps.total,
        canvas=canvas,
        draw=draw or (lambda records: line.set_data(range(len(records)), records)),
        caption=lambda records: f"the last is {records[-1]}",
        alt=lambda records: f"{len(records)} points",
        model=model,
    )


async def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(STEP_SECONDS / 5)


def test_full_run_returns_every_record_and_shows_the_last():
    steps = FakeSteps(5)
    live = make(steps)
    assert asyncio.run(live.run()) == [0, 1, 2, 3, 4]
    assert live.status.text == "finished: 5 of 5"
    assert live.progress.value == live.progress.max == 5
    assert (live.picture.caption_text, live.picture.alt_text) == ("the last is 4", "5 points")
    assert steps.closed == 1


def test_steps_run_in_a_worker_and_drawing_in_the_main_thread():
    drawn_in = set()
    steps = FakeSteps(3)
    asyncio.run(make(steps, draw=lambda records: drawn_in.add(threading.current_thread())).run())
    assert drawn_in == {threading.main_thread()}
    assert len(steps.threads) == 1
    assert steps.threads.pop().startswith("live-run")


def test_pause_holds_the_run_and_continue_goes_on():
    live = make(FakeSteps(20))

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: len(live.records) >= 2)
        live.pause_button.click()
        await until(lambda: live.pause_button.description == "Continue")
        await asyncio.sleep(3 * STEP_SECONDS)  # the step in progress ends
        held = len(live.records)
        assert live.status.text == f"paused: {held} of 20"
        await asyncio.sleep(5 * STEP_SECONDS)
        assert len(live.records) == held
        live.pause_button.click()
        return await run

    assert asyncio.run(scene()) == list(range(20))
    assert live.pause_button.description == "Pause"


@pytest.mark.parametrize("pause_first", [False, True])
def test_stop_keeps_the_records_so_far_and_closes_the_steps(pause_first):
    steps = FakeSteps(1000)
    live = make(steps)

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: len(live.records) >= 2)
        if pause_first:
            live.pause()
            await until(lambda: live.status.text.startswith("paused"))
        live.stop_button.click()
        return await run

    records = asyncio.run(scene())
    assert 2 <= len(records) < 20
    assert records == list(range(len(records)))
    assert live.status.text == f"stopped: {len(records)} of 1000"
    assert steps.closed == 1


def test_buttons_work_from_another_thread():
    live = make(FakeSteps(1000))

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: live.records)
        for act, state in ((live.pause, "paused"), (live.resume, "running")):
            threading.Thread(target=act).start()
            await until(lambda state=state: live.status.text.startswith(state))
        threading.Thread(target=live.stop_button.click).start()
        return await run

    assert asyncio.run(scene())


def test_loop_stays_free_while_a_step_runs():
    ticks = []

    def one_long_step():
        time.sleep(0.2)
        yield 0

    async def scene():
        run = asyncio.create_task(make(one_long_step, total=1).run())
        while not run.done():
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    asyncio.run(scene())
    assert len(ticks) >= 5


def test_error_of_a_step_is_raised_in_the_cell():
    steps = FakeSteps(5, fail_at=2)
    live = make(steps)
    with pytest.raises(FloatingPointError, match="step 2 is not finite"):
        asyncio.run(live.run())
    assert live.records == [0, 1]
    assert live.status.text == "broken off: 2 of 5"
    assert steps.closed == 1


def test_error_while_drawing_is_raised_and_closes_the_steps():
    steps = FakeSteps(5)

    def draw(records):
        raise RuntimeError("cannot draw")

    with pytest.raises(RuntimeError, match="cannot draw"):
        asyncio.run(make(steps, draw=draw).run())
    assert steps.closed == 1


def test_error_while_starting_is_raised():
    def no_steps():
        raise LookupError("no model")

    live = make(no_steps, total=3)
    with pytest.raises(LookupError, match="no model"):
        asyncio.run(live.run())
    assert live.status.text == "broken off: 0 of 3"


def test_interrupted_run_closes_its_steps_and_leaves_nothing_running():
    steps = FakeSteps(1000)
    live = make(steps)

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: len(live.records) >= 2)
        run.cancel()  # what ipykernel makes of an interrupt
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(scene())
    assert steps.closed == 1
    assert live.status.text.startswith("broken off")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-run")]


def test_run_starts_anew_after_a_stop_and_after_an_error():
    steps = FakeSteps(4, fail_at=3)
    live = make(steps)

    async def stopped():
        run = asyncio.create_task(live.run())
        await until(lambda: live.records)
        live.stop()
        return await run

    asyncio.run(stopped())
    with pytest.raises(FloatingPointError):
        asyncio.run(live.run())
    steps.fail_at = None
    assert asyncio.run(live.run()) == [0, 1, 2, 3]
    assert steps.started == steps.closed == 3
    assert live.status.text.startswith("finished")


def test_second_run_at_the_same_time_is_refused():
    live = make(FakeSteps(1000))

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: live.records)
        with pytest.raises(RuntimeError, match="in progress"):
            await live.run()
        live.stop()
        await run

    asyncio.run(scene())


def test_two_runs_on_one_model_are_refused_and_one_after_the_other_is_not():
    model = torch.nn.Linear(1, 1)
    first, second = make(FakeSteps(1000), model=model), make(FakeSteps(2), model=model)
    other = make(FakeSteps(2), model=torch.nn.Linear(1, 1))

    async def scene():
        run = asyncio.create_task(first.run())
        await until(lambda: first.records)
        with pytest.raises(RuntimeError, match="another live run trains this model"):
            await second.run()
        assert second.status.text.startswith("broken off")
        assert await other.run() == [0, 1]
        first.stop()
        await run
        return await second.run()

    assert asyncio.run(scene()) == [0, 1]


def test_a_run_that_breaks_off_gives_its_model_free():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(FloatingPointError):
        asyncio.run(make(FakeSteps(3, fail_at=1), model=model).run())
    assert asyncio.run(make(FakeSteps(2), model=model).run()) == [0, 1]


def test_buttons_of_a_run_that_is_over_do_nothing():
    live = make(FakeSteps(2))
    asyncio.run(live.run())
    assert live.pause_button.disabled
    assert live.stop_button.disabled
    live.pause()
    live.stop()
    assert live.status.text == "finished: 2 of 2"


def test_plain_iterator_will_do():
    assert asyncio.run(make(lambda: iter([7, 8]), total=2).run()) == [7, 8]


def test_page_shows_the_live_view_during_the_run_and_the_last_picture_after_it():
    live = make(FakeSteps(3))
    during = []

    async def scene():
        run = asyncio.create_task(live.run())
        await until(lambda: live.records)
        during.append(live._repr_mimebundle_())
        await run

    asyncio.run(scene())
    after = live._repr_mimebundle_()
    assert VIEW in during[0]
    assert set(after) == {"text/html", "text/plain"}
    assert 'alt="3 points"' in after["text/html"]
    assert after["text/plain"] == "the last is 2 (finished: 3 of 3)"


@pytest.mark.parametrize(("value", "fast"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_fast_mode_is_what_the_environment_says(monkeypatch, value, fast):
    if value is None:
        monkeypatch.delenv("HMPO_FAST", raising=False)
    else:
        monkeypatch.setenv("HMPO_FAST", value)
    assert fast_mode() is fast
