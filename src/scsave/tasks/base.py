"""What perturbation tasks share: their conditions, the routes that are scored, the rows, and the cells that are held out."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.baselines.carry import repeated
from scsave.compose import data_with
from scsave.data.splits.split import Split
from scsave.data.targets import labels
from scsave.errors import UserError
from scsave.keys import COMBINED, Columns
from scsave.metrics.technical import balanced
from scsave.protocol import Context, Method, Outcome
from scsave.stats.expected import unknown

log = logging.getLogger("scsave")
Positive = Annotated[int, Field(gt=0)]
Rows = dict[str, tuple[Method, str]]  # row of a table -> fitted method and route


def reached(expected: dict[str, float] | None, score: float) -> dict[str, float]:
    """What was expected of a prediction and what it scored, for `info["trust"]`."""
    return (expected or unknown()) | {"reached": float(score)}


def row_of(method: str, route: str, number: int) -> str:
    """The row of a method's route, the `number`th that is scored: the headline's is the method's name."""
    if number == 0:
        return method
    return route if route == COMBINED else f"{method}_{route}"


class OneSplit:
    """What a task does unless it says otherwise: it is one for every kind of perturbation, and scores a split without folds."""

    name: str

    def for_kind(self, kind: str) -> Self:
        return self

    def check_cells(self, columns: Columns, obs: pd.DataFrame) -> None:
        """Whatever the split leaves can be scored."""

    def merge(self, outcomes: dict[str, Outcome], folder: Path) -> Outcome:
        raise NotImplementedError(f"{self.name} scores one split, so there are no folds")


@dataclass(kw_only=True)
class CounterfactualTask(OneSplit):
    """Cells under a perturbation that they were never seen under, by each of `routes`; `route` is the headline.

    Null stands for the method's headline. `references` are methods whose rows stand in every table, by row.
    """

    references: dict[str, Any] = field(default_factory=dict)
    name: str = "perturbation"
    target: Any = None  # a level, {column: value}, or a list of such; None: all
    route: str | None = None
    routes: list[str] | None = None
    n_top_genes: Positive = 2000
    n_components: Positive = 30
    asks = "perturbation"

    def check(self, columns: Columns) -> None:
        if columns.perturbation is None or columns.control is None:
            raise UserError(
                f"task=perturbation needs a perturbation column and its control level, {columns.name} names none: set "
                f"data.perturbation_key and data.control; data sets with them: {', '.join(data_with('perturbation_key'))}"
            )

    def routes_of(self, method: Method) -> list[str]:
        """Ways of predicting that are scored, the headline first. UserError for one that the method lacks."""
        further = method.beside if self.routes is None else self.routes
        if len(method.routes) > 1:  # a baseline has one way only, whatever the task names
            for key, asked in (("route", [self.route] if self.route is not None else []), ("routes", further)):
                if unknown := [name for name in asked if name not in method.routes]:
                    has = ", ".join(method.routes)
                    raise UserError(f"task.{key}={unknown[0]}: method={method.name} has {has}")
        headline = self.route if self.route in method.routes else method.routes[0]
        if self.routes is None:  # what costs no further training
            further = [name for name in further if method.needs(name) == method.needs(headline)]
        return list(dict.fromkeys([headline, *(name for name in further if name in method.routes)]))

    def parts(self, method: Method) -> frozenset[str]:
        needed = {method.needs(route) for route in self.routes_of(method)} - {None}
        return frozenset({"autoencoder", *needed}) if needed else frozenset()

    def rows(self, context: Context) -> Rows:
        """Row -> fitted method and route: the method with all its routes, then the references that can be fitted."""
        own = context.method
        found = {row_of(own.name, route, n): (own, route) for n, route in enumerate(self.routes_of(own))}
        for row, method in self.references.items():
            if row in found:
                continue
            try:
                method.fit(context.data, context.split, context.columns, context.seed)
            except UserError as error:
                log.warning("row %s left out: %s", row, error)
                continue
            found[row] = (method, method.routes[0])
        return found


def targets_and_types(data: AnnData, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Target (`scsave.data.targets`) and cell type of each cell, (N,) str each; one type where there is no column of them."""
    target = labels(data.obs, columns)
    kind = data.obs[columns.cell_type].astype(str).to_numpy() if columns.cell_type else np.full(len(target), keys.ALL)
    return target, kind


def held_pairs(data: AnnData, split: Split, columns: Columns, targets: list[str]) -> list[tuple[str, str]]:
    """Cell types and targets that have test cells (two or more, where some have), in order. UserError where none has.

    Where some were never seen together and others were, the first alone: the task is to predict those.
    """
    label, kind = targets_and_types(data, columns)
    found = pd.crosstab(kind[split.test], label[split.test]).reindex(columns=targets, fill_value=0)
    control, seen = set(kind[label == columns.control]), np.concatenate([split.train, split.val])
    known = set(zip(kind[seen], label[seen], strict=True))
    many = [(str(name), t) for name in found.index for t in targets if found.loc[name, t] > 1 and name in control]
    some = many or [(str(name), t) for name in found.index for t in targets if found.loc[name, t]]
    some = [pair for pair in some if pair not in known] or some
    if not some:
        raise UserError(
            f"split {split.name} leaves no test cell with {columns.perturbation}={targets[0]}; use "
            "split=perturbation, or split=leave_out with split.where"
        )
    return some


def held_cells(data: AnnData, split: Split, columns: Columns, name: str, target: str) -> tuple[AnnData, ...]:
    """Control cells of type `name`, its test cells under the target, and every cell that training may see."""
    label, kind = targets_and_types(data, columns)
    own, test = kind == name, np.zeros(data.n_obs, dtype=bool)
    test[split.test] = True
    seen = np.sort(np.concatenate([split.train, split.val]))
    real = data[own & test & (label == target)].copy()
    control = balanced(data[own & (label == columns.control)].copy(), real, columns.batch, 0, f"cells of {name}")
    return control, real, data[seen].copy()


def enough(halves: tuple[AnnData, AnnData], min_cells: int) -> list[AnnData]:
    """Both halves repeated alike, so that the smaller has `min_cells` and together they keep their mean."""
    times = -(-min_cells // min(half.n_obs for half in halves))
    return [repeated(half, times) for half in halves]


def joined(cells: list[AnnData]) -> AnnData:
    """The predictions of both halves as one AnnData."""
    return ad.concat(cells, merge="same", uns_merge="first")
