"""How long will a job take? Measured seconds where there are any, else a model; each estimate says which."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from omegaconf import DictConfig

from scsave.runs.reproduce.jobs import Job
from scsave.runs.reproduce.state import DONE, State

# The model, fitted by eye to CPU seconds of reproduce-small: starting, reading and scoring, then steps x genes x width.
# It is good to a factor of three; what it is for is to tell minutes from days.
START, FOLD, STEP, UNIT = 8.0, 1.0, 0.02, 0.015
UNKNOWN_GENES, UNKNOWN_TYPES = {True: 20_000, False: 1_000}, 13  # genes of a file, and of a set that is packaged


def modelled(cfg: DictConfig) -> float:
    """Seconds by START + folds x (FOLD + steps x (STEP + UNIT x genes/1000 x width/64 x batch/128)), on one core."""
    most = UNKNOWN_GENES[bool(cfg.data.path or cfg.data.get("mirrors"))]
    genes = min(cfg.data.get(key) or most for key in ("n_top_genes", "max_genes", "n_genes"))
    every_type = cfg.task.name == "perturbation" and cfg.data.perturbation_kind == "level"
    held = cfg.task.get("hold_out")
    named = [held] if held is None or isinstance(held, str | int) else held
    folds = UNKNOWN_TYPES if every_type and held in (None, "all") else len(named)
    if cfg.baseline.get("_target_"):
        return START + folds * FOLD
    plan, network = cfg.training, cfg.backbone
    stages = [plan.get(name) or 0 for name in ("steps", "autoencoder_steps", "flow_steps")]
    stages = [min(steps, cfg.trainer.limit_steps or steps) for steps in stages]
    if cfg.task.name == "batch_correction":
        stages[2] = 0
    if cfg.task.name == "perturbation" and set(cfg.task.routes) == {"response"}:
        stages = [0, 0, 0]
    # a step on cached latents costs a third of one of the autoencoder
    steps = stages[0] + stages[1] + stages[2] / 3
    size = genes / 1000 * network.width / 64 * plan.batch_size / 128
    return START + folds * (FOLD + steps * (STEP + UNIT * size))


class Estimates:
    """Seconds a job, and what they rest on: `measured` (this job before), `like` (the experiment's other jobs that are
    done), `model` (scaled by the median of measured over modelled, once there is any)."""

    def __init__(self, state: State, jobs: Iterable[Job]):
        self.jobs, self.state = list(jobs), state

    def _seconds(self, job: Job) -> float | None:
        entry = self.state.of(job)
        return entry.get("seconds") if entry["status"] == DONE else None

    def of(self, job: Job) -> tuple[float, str]:
        if own := self.state.of(job).get("seconds"):
            return own, "measured"
        same = (other for other in self.jobs if other.experiment == job.experiment and other.method == job.method)
        if like := [seconds for other in same if (seconds := self._seconds(other))]:
            return statistics.fmean(like), "like"
        return modelled(job.cfg) * self.scale(), "model"

    def scale(self) -> float:
        ratios = [seconds / modelled(job.cfg) for job in self.jobs if (seconds := self._seconds(job))]
        return statistics.median(ratios) if ratios else 1.0


def spoken(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `12 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
