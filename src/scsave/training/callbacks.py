"""Callbacks of every stage: a checkpoint that a run can go on from, and an end by Ctrl-C that loses nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class StageCheckpoint(Callback):
    """Keeps `<folder>/<stage>.ckpt`: every `every` steps, at the end, and when the run is told to stop.

    Written beside and renamed, so that a kill in the middle of writing leaves the older one whole.
    """

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = Path(folder), every

    def save(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        path = self.folder / f"{stage.name}.ckpt"
        partial = path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, path)
        trainer.strategy.barrier("stage checkpoint")

    def on_train_batch_end(self, trainer: L.Trainer, stage: L.LightningModule, *args: Any) -> None:
        if trainer.global_step % self.every == 0 and trainer.global_step < trainer.max_steps:
            self.save(trainer, stage)

    def on_train_end(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        self.save(trainer, stage)


class GracefulStop(Callback):
    """First Ctrl-C (or SIGTERM): finish the step, save, stop. Second: stop at once."""

    def __init__(self):
        self.stopped = False
        self._before: dict[int, Any] = {}

    def _handle(self, signum: int, frame: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def on_train_start(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._handle)

    def on_train_batch_end(self, trainer: L.Trainer, stage: L.LightningModule, *args: Any) -> None:
        if trainer.world_size > 1:  # a signal may reach only one process, or not all at the same step
            self.stopped = trainer.strategy.reduce_boolean_decision(self.stopped, all=False)
        if self.stopped:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, stage: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}


class StepClock(Callback):
    """Seconds of a training step, batches included, and of a pass over the validation cells; the first steps warm up."""

    WARM_UP = 3

    def __init__(self):
        self.steps, self.passes = 0, 0
        self.step_seconds = self.validation_seconds = 0.0
        self._last: float | None = None
        self._began = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, stage: L.LightningModule, *args: Any) -> None:
        now = time.perf_counter()
        if self._last is not None and trainer.global_step > self.WARM_UP:
            self.steps, self.step_seconds = self.steps + 1, self.step_seconds + now - self._last
        self._last = now

    def on_validation_start(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, stage: L.LightningModule) -> None:
        self.passes, self.validation_seconds = (
            self.passes + 1,
            self.validation_seconds + time.perf_counter() - self._began,
        )
        self._last = None  # the next difference would hold this pass

    def cost(self, stage: str) -> dict[str, float | None]:
        """None where nothing was timed."""
        return {
            f"{stage}_steps_per_second": self.steps / self.step_seconds if self.steps else None,
            f"{stage}_validation_seconds": self.validation_seconds,
            f"{stage}_validation_passes": self.passes,
        }
