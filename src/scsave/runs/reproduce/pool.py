"""Jobs as processes: so many at once, each in a process of its own that a crash takes with it and no other.

On Linux the processes are forked from one that has imported torch and the rest, so that a job does not pay for imports.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
GRACE = 90  # seconds in which a job that was asked to stop can finish its step and write its checkpoint


@dataclass
class Task:
    """One process: what it was started for and how it ended."""

    what: Any
    process: BaseProcess
    report: Connection
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    cpu_seconds: float | None = None

    @property
    def code(self) -> int:
        """0, an exit status, or minus the signal that killed it."""
        return self.process.exitcode if self.process.exitcode is not None else 0


class Pool:
    """`launcher`: None runs train.py here; a Hydra launcher's name hands each job to it as a sweep of one."""

    def __init__(
        self,
        root: Path,
        workers: int,
        threads: int = 1,
        launcher: str | None = None,
        options: Sequence[str] = (),
        preload: Sequence[str] = ("scsave.runs.reproduce.preload",),
    ):
        os.environ.update(dict.fromkeys(THREADS, str(threads)))
        self.root, self.workers, self.launcher, self.options = root, workers, launcher, options
        self.context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux" and launcher is None:
            self.context.set_forkserver_preload(list(preload))
        self.tasks: list[Task] = []

    @property
    def full(self) -> bool:
        return len(self.tasks) >= self.workers

    def start(self, what: Any, arguments: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        receive, send = self.context.Pipe(duplex=False)
        if self.launcher:
            # one job, whatever grid its experiment has
            own = [f"hydra/launcher={self.launcher}", "hydra.sweeper.params=null", *self.options]
            call: tuple = (handed_over, [sys.executable, "train.py", "-m", *own, *arguments])
        else:
            call = (trained_here, ["train.py", *arguments])
        process = self.context.Process(target=child, args=(*call, str(self.root), str(log), send))
        process.start()
        send.close()
        self.tasks.append(Task(what, process, receive))

    def finished(self, timeout: float | None = None) -> list[Task]:
        """The tasks that have ended by now; waits for the first."""
        wait([task.process.sentinel for task in self.tasks], timeout)
        ended = [task for task in self.tasks if not task.process.is_alive()]
        for task in ended:
            task.process.join()
            task.seconds = time.perf_counter() - task.started
            with suppress(EOFError, OSError):
                task.cpu_seconds = task.report.recv() if task.report.poll() else None
            task.report.close()
            self.tasks.remove(task)
        return ended

    def stop(self) -> None:
        """Ask every job to stop where it can go on from; kill what has not after GRACE, or after a second Ctrl-C."""
        try:
            self._signal(signal.SIGTERM)  # SIGINT is ignored in jobs of a driver that nohup started
            until = time.perf_counter() + GRACE
            while self.tasks and time.perf_counter() < until:
                self.finished(timeout=1)
        except KeyboardInterrupt:
            pass
        self._signal(signal.SIGKILL)
        while self.tasks:
            self.finished(timeout=1)

    def _signal(self, number: int) -> None:
        for task in self.tasks:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(task.process.pid, number)


def child(how: Any, arguments: list[str], root: str, log: str, report: Connection) -> None:
    """The process of one job: its own group (a Ctrl-C at the terminal reaches the driver alone), its own log."""
    os.setsid()
    os.chdir(root)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        how(arguments)
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        report.send(sum(usage.ru_utime + usage.ru_stime for usage in used))
        sys.stdout.flush()


def end_with(parent: int) -> None:
    """When the driver dies (a kill), the job is told to stop: it keeps a checkpoint, and no orphan trains on."""
    wait([parent])
    os.killpg(0, signal.SIGTERM)


def trained_here(arguments: list[str]) -> None:
    """`python train.py ...` in this process."""
    sys.argv = arguments
    runpy.run_path("train.py", run_name="__main__")


def handed_over(command: list[str]) -> None:
    raise SystemExit(subprocess.run(command).returncode)
