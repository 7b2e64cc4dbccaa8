"""What a run is doing: a line a phase, with a bar where somebody looks on and plain, every ten seconds, where nobody does.

    with phase("autoencoder", 700, "steps") as at:
        at.step(loss=loss)  # costs nothing: a tensor is read only when a line is drawn

`showing` decides how; without it (the package used from Python) there are bars in a terminal and nothing elsewhere.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
BARS, PLAIN, SILENT = "bars", "plain", "silent"
EVERY = {BARS: 0.25, PLAIN: 10.0}  # seconds between two drawings
_lock = threading.RLock()


def rank_zero() -> bool:
    """Is this the process that prints, scores and writes? Told by the environment: torchrun's, SLURM's or Lightning's."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"]) == 0
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        return int(os.environ["SLURM_PROCID"]) == 0
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Phase:
    """A part of a run: `done` of `total` steps (None: nobody knows how many). It is pooch's progress bar as well."""

    def __init__(self, name: str, total: int | None = None, unit: str = "", group: bool = False):
        self.name, self.total, self.unit, self.group = name, total, unit, group
        self.done, self.first, self.loss = 0, 0, None
        self.began, self.parted = time.monotonic(), False  # `parted`: a phase of its own stood in its place

    def step(self, n: int = 1, loss: Any = None) -> None:
        """`n` steps further; `loss` is a number or a tensor of one."""
        self.at(self.done + n, loss=loss)

    update = step

    def at(self, done: int, total: int | None = None, loss: Any = None) -> None:
        self.done, self.total = done, total or self.total
        self.loss = self.loss if loss is None else loss

    def begin_at(self, done: int) -> None:
        """Steps that an earlier run did say nothing of this one's speed."""
        self.done = self.first = done

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """The phase ends where its `with` ends."""

    def text(self, ended: bool = False) -> str:
        """`412 of 700 steps, loss 0.4123, 12 s left`; how long it took, where it has ended."""
        passed, done = time.monotonic() - self.began, min(self.done, self.total or self.done)
        counted = f"{done:,} of {self.total:,}" if self.total else f"{done:,}" if done else ""
        parts = [f"{counted} {self.unit}".strip()] if counted else []
        if self.loss is not None:
            parts.append(f"loss {float(self.loss):.4g}")
        if ended:
            return ", ".join([*parts, duration(passed)])
        if self.total and done > self.first:
            left = passed / (done - self.first) * (self.total - done)
            return ", ".join([*parts, f"{duration(left)} left"])
        return ", ".join([*parts, f"{duration(passed)} so far"])


class _Screen:
    """Where lines are drawn: the phases that are open, outermost first, and the thread that draws them."""

    def __init__(self, how: str, said: str = ""):
        self.how, self.said, self.open = how, said, list[Phase]()
        self.ended: threading.Event | None = None
        self.bars: Any = None
        self.tasks: dict[int, Any] = {}  # of rich, by the phase's id
        self.streams: list[tuple[logging.StreamHandler, Any]] = []

    def enter(self, one: Phase) -> None:
        with _lock:
            for outer in self.open:
                outer.parted = True
            self.open.append(one)
            if len(self.open) == 1:
                self.start()
            if self.bars is not None:
                for outer in (outer for outer in self.open[:-1] if outer.group):
                    self.bars.update(self.tasks[id(outer)], visible=False)
                indent = 2 * sum(not outer.group for outer in self.open[:-1])
                self.tasks[id(one)] = self.bars.add_task(" " * indent + one.name, total=one.total, text=one.text())

    def leave(self, one: Phase, whole: bool) -> None:
        with _lock:
            if one not in self.open:
                return
            place = self.open.index(one)
            kept = all(outer.group for outer in self.open[:place]) and not (one.group and one.parted)
            if self.how == PLAIN and kept and whole:
                self.print(f"{one.name}: {one.text(ended=True)}")
            for inner in self.open[place:]:
                if self.bars is not None and (inner is not one or not kept):
                    self.bars.remove_task(self.tasks.pop(id(inner)))
            if self.bars is not None and kept:
                done = {"completed": one.total or 1, "total": one.total or 1} if whole else {"completed": one.done}
                self.bars.update(self.tasks[id(one)], text=one.text(ended=whole), **done)
            del self.open[place:]
            if not self.open:
                self.stop()

    def start(self) -> None:
        if self.how == BARS:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            look = TextColumn("{task.description:<12}"), BarColumn(24), TextColumn("{task.fields[text]}")
            self.bars = Progress(*look, console=Console(stderr=True), auto_refresh=False)
            before = (sys.stdout, sys.stderr)
            self.bars.start()
            for handler in logging.getLogger().handlers:  # they hold the streams that rich has put others in place of
                if isinstance(handler, logging.StreamHandler) and handler.stream in before:
                    self.streams.append((handler, handler.setStream(sys.stderr)))
        self.ended = threading.Event()
        threading.Thread(target=self.watch, args=(self.ended,), name="progress", daemon=True).start()

    def stop(self) -> None:
        self.ended.set()
        if self.bars is not None:
            self.bars.refresh()
            self.bars.stop()
            for handler, stream in self.streams:
                handler.setStream(stream)
        self.bars, self.tasks, self.streams = None, {}, []

    def watch(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY[self.how]):
            with _lock:
                if not ended.is_set():
                    self.draw()

    def draw(self) -> None:
        if self.bars is None:
            names = [one.name for one in self.open if not one.group or one is self.open[-1]]
            self.print(f"{', '.join(names)}: {self.open[-1].text()}")
            return
        for one in self.open:
            self.bars.update(self.tasks[id(one)], completed=one.done, total=one.total, text=one.text())
        self.bars.refresh()

    def print(self, line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {self.said}{line}", file=sys.stderr, flush=True)


def terminal() -> bool:
    """Does somebody look at both outputs? A bar beside lines that go elsewhere could not be read."""
    return sys.stdout.isatty() and sys.stderr.isatty()


_screen: _Screen | None = None


@contextmanager
def showing(how: str, said: str = "") -> Iterator[None]:
    """Within it phases are shown as bars, plain (each line begins with `said`), or not at all."""
    global _screen
    before, _screen = _screen, _Screen(how if rank_zero() else SILENT, said)
    try:
        yield
    finally:
        _screen = before


@contextmanager
def phase(name: str, total: int | None = None, unit: str = "", group: bool = False) -> Iterator[Phase]:
    """A phase of `total` steps, told in `unit`. Of one inside another the line goes when it ends; a `group` gives its own
    line to the phases inside it, where there are some."""
    global _screen
    if _screen is None and terminal() and rank_zero():
        _screen = _Screen(BARS)  # without anybody having asked for them
    screen, one = _screen, Phase(name, total, unit, group)
    if screen is None or screen.how == SILENT:
        yield one
        return
    screen.enter(one)
    whole = False
    try:
        yield one
        whole = True
    finally:
        screen.leave(one, whole)


def each(
    items: Collection[Item], name: str, unit: str = "", by: int = 1, total: int | None = None, group: bool = False
) -> Iterator[Item]:
    """The items, in a phase of their own: each is `by` steps, and all are `total`."""
    with phase(name, total or by * len(items), unit, group) as at:
        for item in items:
            yield item
            at.step(by)
