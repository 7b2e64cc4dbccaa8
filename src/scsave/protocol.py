"""What a task asks of a method, and what every task gives to a run: the two protocols that the whole package meets at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns
    from scsave.metrics.row import Metric

Scores = dict[str, dict[str, dict[str, float]]]  # row -> group -> metric -> raw value


class Method(Protocol):
    """SAVE or a baseline. `tasks` says which of the three prediction methods it has."""

    name: str
    tasks: frozenset[str]
    routes: tuple[str, ...]  # ways in which respond() can predict
    cost: dict[str, Any]  # parameters, optimiser steps, budget: plain values for results.json

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        """Learn from `data[split.train]`; `data[split.val]` may only stop or choose."""

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        """One cell for each row of `obs` (condition columns), in that order."""

    def integrate(self, data: AnnData, seed: int) -> AnnData:
        """The same cells with `obsm["X_<name>"]` and, where the method can, corrected log1p expression in `X`."""

    def respond(self, control: AnnData, target: str, seed: int, route: str) -> AnnData:
        """The cells of `control` as they would be under the level `target` of the perturbation column."""


@dataclass
class Context:
    """What a run hands to its task."""

    data: AnnData
    columns: Columns
    split: Split
    method: Method
    folder: Path
    seed: int
    figures: bool = True
    whole_obs: Callable[[pd.DataFrame], pd.DataFrame] = lambda obs: obs  # with the further columns of the file


@dataclass
class Outcome:
    """What a task hands back: everything that becomes results.json, tables and pictures."""

    scores: Scores
    validation: dict[str, float] = field(default_factory=dict)  # headline metrics on validation cells, for sweeps
    protocols: dict[str, Scores] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    registry: str | None = None  # task name of the rows in the metric registry, where it is not the task's `metrics`
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # what a merge of folds needs beside the scores
    write: Callable[[Path], None] | None = None  # files of all folds together, given the run's folder
    draw: Callable[[Path], None] | None = None  # pictures of the whole run, given the folder of its pictures


class Task(Protocol):
    """generation, batch_correction, perturbation, or one of your own (docs/extending.md); an option of the group `task`."""

    name: str
    asks: str  # generation, batch_correction or perturbation: which of a method's prediction methods it calls
    metrics: str  # task name of its rows in the metric registry

    def check(self, columns: Columns) -> None:
        """Refuse, by UserError, a data set that lacks what the task needs."""

    networks: str  # how much of SAVE has to be trained: none, autoencoder, flow (both)
    n_components: int  # of the principal components that cells are compared in

    def conditions(self, columns: Columns) -> list[str]:
        """The condition columns that the model knows; the flow is told all of them."""

    def decoder_conditions(self, columns: Columns, obs: pd.DataFrame) -> list[str]:
        """Those of them that the decoder is told (method.md section 2); `obs` of all cells."""

    def run(self, context: Context) -> Outcome:
        """Predict with the fitted method, score, write the product files and figures."""

    def merge(self, outcomes: dict[str, Outcome]) -> Outcome:
        """One outcome of all folds, for tasks whose split has folds."""

    def validation_metrics(self, columns: Columns) -> dict[str, Metric]:
        """Rows of the registry that `validate` computes; UserError for a task that has no validation score."""

    def validate(self, context: Context) -> dict[str, float]:
        """The fitted method on validation cells, by metric; asked for by a sweep only."""
