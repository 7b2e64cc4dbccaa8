"""Options of the config group `logger`. The csv logger always writes: the loss curves are drawn from it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scsave.errors import UserError
from scsave.files import write_text
from scsave.metrics.registry import rows
from scsave.progress import rank_zero

if TYPE_CHECKING:
    import wandb
    from lightning.pytorch.loggers import Logger

    from scsave.protocol import Scores


@dataclass(frozen=True)
class Job:
    """What a logger is told of a run: its folder and its whole config."""

    folder: Path
    config: dict[str, Any]

    @property
    def tags(self) -> list[str]:
        """Names of task, data set and method."""
        return [self.config[group]["name"] for group in ("task", "data", "method")]


@dataclass(kw_only=True)
class CSV:
    """`<run>/logs/<stage>/metrics.csv`, nothing else; a resumed stage writes beside what it wrote before."""

    def build(self, folder: Path, stage: str, job: Job) -> list[Logger]:
        """Lightning's loggers of one stage; `folder` is the run's or that of one of its folds."""
        from lightning.pytorch.loggers import CSVLogger

        before = len(list((folder / "logs").glob(f"{stage}*")))
        version = f"logs/{stage}" + (f".{before}" if before else "")
        return [CSVLogger(folder, name="", version=version, flush_logs_every_n_steps=100)]

    def scored(self, job: Job, folder: Path, scores: Scores, registry: str, validation: dict[str, float]) -> None:
        """The run's results, once they are written to `folder`."""

    def close(self, job: Job, failed: bool) -> None:
        """The run is over."""


@contextmanager
def closing(logger: CSV, job: Job) -> Iterator[None]:
    failed = True
    try:
        yield
        failed = False
    finally:
        logger.close(job, failed)


@dataclass(kw_only=True)
class TensorBoard(CSV):
    """csv and `<run>/tensorboard`."""

    def build(self, folder: Path, stage: str, job: Job) -> list[Logger]:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [*super().build(folder, stage, job), TensorBoardLogger(folder, name="", version="tensorboard")]


@dataclass(kw_only=True)
class Wandb(CSV):
    """csv and Weights & Biases; `offline` needs no account.

    One wandb run a run: every stage and fold, baselines too, then scores and pictures. Its id is kept in
    `<run>/wandb/run_id`, so that a resumed run continues it; a run that begins anew gets a new one.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    offline: bool = False

    def build(self, folder: Path, stage: str, job: Job) -> list[Logger]:
        from lightning.pytorch.loggers import WandbLogger

        loggers = super().build(folder, stage, job)
        if rank_zero():
            fold = "" if folder == job.folder else folder.name
            loggers.append(WandbLogger(experiment=self.run(job), prefix=fold, log_model=False))
        return loggers

    def run(self, job: Job) -> wandb.Run:
        """The wandb run of this job, begun or continued. UserError without an account or a connection."""
        import wandb

        if wandb.run is not None and wandb.run.id == run_id(job.folder):
            return wandb.run
        wanted = (run_id(job.folder) if job.config["resume"] else None) or f"{job.folder.name}-{secrets.token_hex(4)}"
        wanted = os.environ.get("WANDB_RUN_ID") or wanted  # a wandb agent names its runs itself
        try:
            run = wandb.init(
                project=self.project, entity=self.entity,
                group=self.group or job.config["experiment_name"] or "/".join(job.tags[:2]),
                tags=[*self.tags, *job.tags], name="/".join(job.tags), id=wanted, resume="allow",
                reinit="finish_previous", mode="offline" if self.offline else None, dir=job.folder,
                config=job.config,
            )  # fmt: skip
        except wandb.errors.Error as error:
            why = str(error).splitlines()[0]
            how = "`wandb login` once, or logger.offline=true needs no account"
            raise UserError(f"logger=wandb: {why} ({how})") from None
        write_text(job.folder / "wandb" / "run_id", run.id)
        # stages count their steps from 0, so a curve's axis is its stage's step, not wandb's
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run

    def scored(self, job: Job, folder: Path, scores: Scores, registry: str, validation: dict[str, float]) -> None:
        """Every score of the group `all`: a table, the method's own as numbers of the run; and the pictures."""
        import wandb

        run, known = self.run(job), rows(registry)
        table = [[m, known[m].arrow, *[scores[row].get("all", {}).get(m) for row in scores]] for m in known]
        own = {f"test/{name}": value for name, value in scores[job.tags[-1]].get("all", {}).items()}
        own |= {f"validation/{name}": value for name, value in validation.items()}
        for path in sorted((folder / "figures").glob("*.png")):
            own[f"figures/{path.stem}"] = wandb.Image(str(path))
        run.log({"results": wandb.Table(columns=["metric", "best", *scores], data=table)} | own)

    def close(self, job: Job, failed: bool) -> None:
        import wandb

        if wandb.run is not None and wandb.run.id == run_id(job.folder):
            wandb.finish(exit_code=int(failed))


def run_id(folder: Path) -> str | None:
    """Id of the wandb run that a run's folder belongs to."""
    path = folder / "wandb" / "run_id"
    return path.read_text(encoding="utf-8") if path.is_file() else None
