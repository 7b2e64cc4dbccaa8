"""Task `generation`: cells from noise under the test cells' conditions, beside the noise floor (evaluation.md)."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
from anndata import AnnData
from pydantic import PositiveInt

from scsave import keys
from scsave.baselines.predicted import own_names
from scsave.errors import UserError
from scsave.files import write_h5ad
from scsave.keys import Columns
from scsave.metrics.generation import GenerationScorer
from scsave.metrics.registry import rows
from scsave.metrics.row import NEUTRAL, PROTOCOLS, Metric
from scsave.progress import each, phase
from scsave.protocol import Context, Method, Outcome
from scsave.tasks.base import OneSplit
from scsave.tasks.validation import validation_split


@dataclass(kw_only=True)
class Generation(OneSplit):
    """As many cells as there are test cells, given their condition columns and nothing else; at most some 10,000.

    `references` are methods whose rows stand in every table beside the noise floor.
    """

    name: str = "generation"
    n_top_genes: PositiveInt = 2000
    n_components: PositiveInt = 30
    protocols: Literal["neutral", "all"] = "neutral"
    references: dict[str, Any]
    asks = "generation"
    metrics = "generation"

    def parts(self, method: Method) -> frozenset[str]:
        return frozenset({"autoencoder", "noise"})

    def check(self, columns: Columns) -> None:
        if not columns.conditions:
            raise UserError(f"task=generation needs condition columns, {columns.name} names none: set data.conditions")

    def scorer(self, context: Context, protocols: tuple[str, ...] = (NEUTRAL,)) -> GenerationScorer:
        """What holds cells against the test cells of the split."""
        data, split, columns = context.data, context.split, context.columns
        return GenerationScorer(
            data, data, columns.conditions, columns.cell_type, n_top_genes=self.n_top_genes, protocols=protocols,
            n_components=self.n_components, seed=context.seed, rows=(split.train, split.test),
        )  # fmt: skip

    def run(self, context: Context) -> Outcome:
        split, columns = context.split, context.columns
        if len(split.test) < 2:
            raise UserError(f"split {split.name} leaves {len(split.test)} test cells; task=generation needs at least 2")
        with phase("spaces to score in"):
            scorer = self.scorer(context, PROTOCOLS if self.protocols == "all" else (NEUTRAL,))
        asked = scorer.test.obs[columns.conditions]
        started = time.perf_counter()
        with phase("sampling", group=True):
            generated = own_names(context.method.generate(asked, seed=context.seed))
        context.method.cost.update({"seconds_sample": time.perf_counter() - started, "cells_sampled": generated.n_obs})
        write_h5ad(context.folder / "generated.h5ad", generated)

        cells = {context.method.name: lambda: generated} | self.reference_rows(context, scorer, asked)
        scored = {row: scorer.score(cells[row]()) for row in each(cells, "scoring", "rows")}
        protocols = {name: {row: groups[name] for row, groups in scored.items()} for name in scorer.protocols}
        info = {"scorer": scorer.info, "headline_protocol": NEUTRAL}
        return Outcome(scores=protocols.pop(NEUTRAL), protocols=protocols, info=info)

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        return rows("generation")

    def validate(self, context: Context) -> dict[str, float]:
        """Cells under the validation cells' conditions against those cells, neutral protocol."""
        split = validation_split(context.split)
        scorer = self.scorer(dataclasses.replace(context, split=split), (NEUTRAL,))
        cells = context.method.generate(scorer.test.obs[context.columns.conditions], seed=context.seed)
        return scorer.score(cells)[NEUTRAL][keys.ALL]

    def reference_rows(
        self, context: Context, scorer: GenerationScorer, asked: pd.DataFrame
    ) -> dict[str, Callable[[], AnnData]]:
        """The noise floor and the methods of `references`, what any number must be read against; each made when called."""

        def cells(method: Method) -> AnnData:
            method.fit(context.data, context.split, context.columns, context.seed)
            return method.generate(asked, seed=context.seed)

        further = {row: partial(cells, one) for row, one in self.references.items() if row != context.method.name}
        return {"real": scorer.real_sample, "train_resample": scorer.train_resample} | further
