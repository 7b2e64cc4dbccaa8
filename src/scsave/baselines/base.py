"""What every baseline shares: the `Method` protocol with each task refused until a class offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from anndata import AnnData

from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns

ROUTE = "shift"  # the first route of a baseline: one way of predicting a response


class Baseline:
    """An ordinary method (`scsave.protocol.Method`); a class overrides what its task needs, nothing more."""

    name: ClassVar[str]
    tasks: ClassVar[frozenset[str]] = frozenset()
    routes: ClassVar[tuple[str, ...]] = ()
    cost: dict[str, Any]

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int) -> None:
        raise NotImplementedError

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        raise self._cannot("generation")

    def integrate(self, data: AnnData, seed: int) -> AnnData:
        raise self._cannot("batch_correction")

    def respond(self, control: AnnData, target: str, seed: int, route: str = ROUTE) -> AnnData:
        raise self._cannot("perturbation")

    def _cannot(self, task: str) -> UserError:
        return UserError(f"baseline={self.name} has no {task}; it serves task={' or '.join(sorted(self.tasks))}")

    def _closed_form(self, parameters: int, cells: int) -> None:
        """Record the budget of a baseline that is computed, not trained."""
        self.cost = {"parameters": int(parameters), "steps": 0, "cells_seen": int(cells)}
