"""What a task asks of a method and what it gives to a run: the protocols that the whole package meets at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.data.splits.split import Split
from scsave.keys import Columns
from scsave.metrics.row import Metric
from scsave.training.options import FitOptions

Scores = dict[str, dict[str, dict[str, float]]]  # row -> group -> metric -> raw value


class Method(Protocol):
    """SAVE or a baseline, an option of the config group `method`. `tasks` says which prediction methods it has."""

    name: str
    tasks: frozenset[str]
    routes: tuple[str, ...]  # ways in which respond() can predict, its own first
    beside: tuple[str, ...]  # of those, what is scored beside the first unless a task names others: they cost little
    cost: dict[str, Any]  # parameters, optimiser steps, budget: plain values for results.json
    info: dict[str, Any]  # of what was fitted: plain values for results.json

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions | None = None) -> None:
        """Learn from `data[split.train]`; `data[split.val]` may only stop or choose."""

    def needs(self, route: str) -> str | None:
        """The part of the model that a route of `respond` needs trained (`scsave.training.stages.PARTS`), if any."""

    def save(self, folder: Path) -> None:
        """Keep what was learned in `folder`, where a method can."""

    def restore(self, folder: Path, device: str = "cpu") -> bool:
        """Take what `save` left in `folder`; False where there is nothing."""

    def complete(self, data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions) -> bool:
        """Train what `options` asks for and restored weights lack; was there something?"""

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        """One cell for each row of `obs` (condition columns), in that order."""

    def integrate(self, data: AnnData, seed: int, reference: str | None = None) -> AnnData:
        """The same cells with `obsm["X_<name>"]` and, where the method can, corrected log1p expression in `X`."""

    def respond(self, control: AnnData, target: str, seed: int, route: str) -> AnnData:
        """The cells of `control` as they would be under `target`, the label of a level (`scsave.data.targets`)."""

    def trust(self, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
        """Expected change-PCC of such a prediction along a route (None: the first) with its interval; None: nothing is known.

        `scsave.stats.expected` makes it of training strata held out in turn.
        """


@dataclass
class Context:
    """What a run hands to its task. Product files go to `folder`, that of the scores; a fold has one of its own below."""

    data: AnnData
    columns: Columns
    split: Split
    method: Method
    folder: Path
    seed: int
    whole_obs: Callable[[pd.DataFrame], pd.DataFrame] = lambda obs: obs  # with the further columns of the file


@dataclass
class Outcome:
    """What a task hands back: everything that becomes results.json."""

    scores: Scores
    validation: dict[str, float] = field(default_factory=dict)  # headline metrics on validation cells, for sweeps
    protocols: dict[str, Scores] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # what a merge of folds needs beside the scores


class Task(Protocol):
    """generation, batch_correction, response, genetic, or one of your own (docs/extending.md).

    An option of the group `task`; `task=perturbation` picks response or genetic by the kind of perturbation.
    """

    name: str
    asks: str  # generation, batch_correction or perturbation: which of a method's prediction methods it calls
    metrics: str  # name of its rows in the metric registry

    def for_kind(self, kind: str) -> Task:
        """The task for data whose perturbations are of this kind (level, genes); itself where it makes no difference."""

    def check(self, columns: Columns) -> None:
        """Refuse, by UserError, a data set that lacks what the task needs."""

    def check_cells(self, columns: Columns, obs: pd.DataFrame) -> None:
        """Refuse, by UserError and before anything is trained, cells that can't be scored; `obs` of the training cells."""

    def parts(self, method: Method) -> frozenset[str]:
        """The parts of a method that have to be trained (`scsave.training.stages.PARTS`)."""

    def run(self, context: Context) -> Outcome:
        """Predict with the fitted method, score, write the product files."""

    def merge(self, outcomes: dict[str, Outcome], folder: Path) -> Outcome:
        """One outcome of all folds, for tasks whose split has folds; files of all folds together go to `folder`."""

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        """Rows of the registry that `validate` computes; UserError for a task that has no validation score."""

    def validate(self, context: Context) -> dict[str, float]:
        """The fitted method on validation cells, by metric; asked for by a sweep only."""
