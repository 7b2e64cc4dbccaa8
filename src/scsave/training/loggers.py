"""Options of the config group `logger`. The csv logger always writes: the loss curves are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(kw_only=True)
class CSV:
    """`<run>/logs/<stage>/metrics.csv`, nothing else; a resumed stage writes beside what it wrote before."""

    def build(self, folder: Path, stage: str, tags: dict[str, str]) -> list[Logger]:
        from lightning.pytorch.loggers import CSVLogger

        before = len(list((folder / "logs").glob(f"{stage}*")))
        version = f"logs/{stage}" + (f".{before}" if before else "")
        return [CSVLogger(folder, name="", version=version, flush_logs_every_n_steps=100)]


@dataclass(kw_only=True)
class TensorBoard(CSV):
    """csv and `<run>/tensorboard`."""

    def build(self, folder: Path, stage: str, tags: dict[str, str]) -> list[Logger]:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [*super().build(folder, stage, tags), TensorBoardLogger(folder, name="", version="tensorboard")]


@dataclass(kw_only=True)
class Wandb(CSV):
    """csv and Weights & Biases; `offline` needs no account. A resumed run continues the same wandb run."""

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    offline: bool = False

    def build(self, folder: Path, stage: str, tags: dict[str, str]) -> list[Logger]:
        from lightning.pytorch.loggers import WandbLogger

        folder.mkdir(parents=True, exist_ok=True)
        return [
            *super().build(folder, stage, tags),
            WandbLogger(
                project=self.project,
                entity=self.entity,
                group=self.group or f"{tags['task']}/{tags['data']}",
                tags=[*self.tags, *tags.values()],
                id=folder.name,
                name="/".join(tags.values()),
                offline=self.offline,
                resume="allow",
                save_dir=folder,
                log_model=False,
            ),
        ]
