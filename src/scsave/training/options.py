"""What a run gives to a fit beside cells, split, columns and seed: what the task needs, and where and how to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scsave.training.trainer import TrainerOptions

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger


@dataclass
class FitOptions:
    """`conditions` are the columns that the model knows, `decoder_conditions` those that the decoder is given.

    None stands for all columns that have a role, and for the technical ones. `parts` says what is trained (see
    `scsave.training.stages.PARTS`), `routes` how it will predict perturbed cells, and `done` names
    stages that are trained already. A baseline may ignore it all.
    """

    conditions: list[str] | None = None
    decoder_conditions: list[str] | None = None
    parts: frozenset[str] = frozenset({"autoencoder", "noise"})
    routes: tuple[str, ...] = ()
    done: frozenset[str] = frozenset()
    cache: Path = Path("data/cache")
    folder: Path | None = None  # checkpoints of the stages; None keeps nothing
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    loggers: Callable[[str], list[Logger]] = lambda stage: []  # of the stage of that name
    callbacks: list[Callback] = field(default_factory=list)
    checkpoint_every: int = 500
