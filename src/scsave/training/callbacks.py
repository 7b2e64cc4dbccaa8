"""Callbacks of every stage: weight averaging, checkpoints to resume from, an end by Ctrl-C that loses nothing, speed.

Their order matters: within a step the average is updated first, then the signal is looked at, then the checkpoint written,
so that a checkpoint holds weights and averages of the same step.
"""

from __future__ import annotations

import math
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ThroughputMonitor, WeightAveraging
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor

from scsave.files import partial_of
from scsave.models.checkpoint import check_state, read_summed, summed
from scsave.training.module import StageModule


class Averaging(WeightAveraging):
    """Lightning's exponential moving average, of the one network that the stage averages; the other weights follow.

    The decay grows as (1 + n) / (10 + n) over n steps until it is `decay`, so that the beginning is forgotten.
    """

    def __init__(self, decay: float, device: torch.device):
        super().__init__(device, use_buffers=False, multi_avg_fn=self._update)
        self.decay = decay
        self._averaged: list[int] = []  # places of the averaged weights among all of the module's
        self._followed: list[int] = []  # those of the others that are trained

    def setup(self, trainer: L.Trainer, module: StageModule, stage: str) -> None:
        super().setup(trainer, module, stage)
        averaged = set(module.averaged.parameters())
        for place, weight in enumerate(module.parameters()):
            if weight in averaged:
                self._averaged.append(place)
            elif weight.requires_grad:
                self._followed.append(place)

    def _update(self, averaged: list[Tensor], current: list[Tensor], n_averaged: Tensor) -> None:
        n = self._latest_update_step  # as `n_averaged`, but on the CPU
        decay = min(self.decay, (1 + n) / (10 + n))
        old, new = ([tensors[k] for k in self._averaged] for tensors in (averaged, current))
        torch._foreach_lerp_(old, new, 1 - decay)
        if self._followed:
            torch._foreach_copy_(*([tensors[k] for k in self._followed] for tensors in (averaged, current)))


class GracefulStop(Callback):
    """First Ctrl-C (or SIGTERM): finish the step, save, stop. Second: stop at once."""

    def __init__(self):
        self.stopped = False
        self._before: dict[int, Any] = {}

    def _handle(self, signum: int, frame: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def on_train_start(self, trainer: L.Trainer, module: StageModule) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._handle)

    def on_train_batch_end(self, trainer: L.Trainer, module: StageModule, *args: Any) -> None:
        if trainer.world_size > 1:  # a signal may reach only one process, or not all at the same step
            self.stopped = trainer.strategy.reduce_boolean_decision(self.stopped, all=False)
        if self.stopped:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, module: StageModule) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, module: StageModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}


class Convergence(Callback):
    """Begins a stage's cooldown when its validation score has flattened or its time is up; keeps the best weights.

    `reason` says why the stage ended. The state is part of a checkpoint, so that a resumed stage ends where it would have.
    """

    def __init__(self, patience: int | None, tolerance: float, seconds: float | None, cool_from: int | None):
        self.patience, self.tolerance, self.seconds, self.cool_from = patience, tolerance, seconds, cool_from
        self.best, self.stale, self.spent = math.inf, 0, 0.0
        self.weights: dict[str, Tensor] = {}
        self.reason = "steps"
        self._at = 0.0

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "stale", "spent", "reason", "cool_from", "weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def on_train_start(self, trainer: L.Trainer, module: StageModule) -> None:
        self._at, module.cool_from = time.perf_counter(), self.cool_from
        self._end(trainer, module)  # a stage that had ended before goes on no further

    def on_validation_end(self, trainer: L.Trainer, module: StageModule) -> None:
        """Before the cooldown gains are counted; in it the weights of the best score are kept."""
        score = trainer.callback_metrics.get(f"{module.name}/val_loss")
        if score is None or self.patience is None or not module.scored(trainer.global_step):
            return
        score = float(score)
        if score < self.best - self.tolerance * abs(self.best) or not math.isfinite(self.best):
            self.stale = 0
        else:
            self.stale += 1
        if score < self.best:
            self.best = score
        if score <= self.best:
            self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        if self.cool_from is None and self.stale >= self.patience:
            self._cool(module, trainer.global_step, "the validation score has flattened")

    def on_train_batch_end(self, trainer: L.Trainer, module: StageModule, *args: Any) -> None:
        now = time.perf_counter()
        self.spent, self._at = self.spent + now - self._at, now
        if self.seconds is not None and self.cool_from is None:
            late = self.spent >= self.seconds * (1 - module.plan.cooldown)
            if trainer.world_size > 1:
                late = trainer.strategy.reduce_boolean_decision(late, all=False)
            if late:
                self._cool(module, trainer.global_step, "its time was up")
        self._end(trainer, module)

    def _end(self, trainer: L.Trainer, module: StageModule) -> None:
        if self.cool_from is not None and trainer.global_step >= module.cooling()[1]:
            trainer.should_stop = True

    def _cool(self, module: StageModule, step: int, reason: str) -> None:
        if step < module.cooling()[0]:
            self.cool_from = module.cool_from = step
            self.reason = reason

    def best_weights(self, module: StageModule) -> None:
        """Load the weights of the best validation score."""
        if self.weights:
            module.load_state_dict(self.weights)


class StageCheckpoint(Callback):
    """Keeps `<folder>/<stage>.ckpt`: every `every` steps, at the last, and when the run is asked to stop.

    Written beside and renamed (Lightning's own is not), so that a kill while it is written leaves the older one whole.
    At a step that is validated it is written after the validation, which a resumed run would not make up for.
    """

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = Path(folder), every

    def path(self, stage: str) -> Path:
        return self.folder / f"{stage}.ckpt"

    def found(self, module: StageModule) -> Path | None:
        """The checkpoint that an earlier run left of this stage; UserError where it is damaged or of other networks."""
        path, otherwise = self.path(module.name), "delete it to train this stage from its beginning"
        if not path.exists():
            return None
        check_state(path, read_summed(path, otherwise).get("state_dict"), module.state_dict(), otherwise)
        return path

    def on_train_batch_end(self, trainer: L.Trainer, module: StageModule, *args: Any) -> None:
        validated = sum(trainer.num_val_batches) > 0 and trainer.global_step % module.plan.val_every == 0
        if self._due(trainer) and not validated:
            self._write(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: StageModule) -> None:
        if self._due(trainer) and module.scored(trainer.global_step):
            self._write(trainer, module)

    def _due(self, trainer: L.Trainer) -> bool:
        ends = trainer.should_stop or trainer.global_step >= trainer.max_steps
        return ends or trainer.global_step % self.every == 0

    def _write(self, trainer: L.Trainer, module: StageModule) -> None:
        path = self.path(module.name)
        with summed(path) if trainer.is_global_zero else nullcontext(partial_of(path)) as partial:
            trainer.save_checkpoint(partial)
        trainer.strategy.barrier("stage checkpoint")


class Speed(ThroughputMonitor):
    """Lightning's throughput over the last steps of a stage, for results.json.

    Loggers are left out: there two stages would share one name.
    """

    WINDOW, WARM_UP = 100, 3  # steps

    def __init__(self, steps: int):
        window = max(2, min(self.WINDOW, steps - self.WARM_UP))
        super().__init__(batch_size_fn=lambda batch: len(batch["library"]), window_size=window)

    def _compute(self, trainer: L.Trainer, iter_num: int | None = None) -> None:
        """Nothing is logged."""

    def cost(self) -> dict[str, float | None]:
        """Steps a second, None where too few were timed, and seconds of the last pass over the validation cells."""
        train, val = (self._throughputs.get(when) for when in (RunningStage.TRAINING, RunningStage.VALIDATING))
        return {
            "steps_per_second": train.compute().get("device/batches_per_sec") if train and train._time else None,
            "validation_seconds": val.compute()["time"] if val and val._time else None,
        }
