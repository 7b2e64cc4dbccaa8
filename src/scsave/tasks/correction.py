"""Task `batch_correction`: one embedding for all batches, and expression as one batch would show it (evaluation.md)."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import PositiveInt

from scsave import keys
from scsave.compose import data_with
from scsave.errors import UserError
from scsave.files import write_h5ad
from scsave.keys import Columns
from scsave.metrics.integration import IntegrationScorer, checked_labels
from scsave.metrics.row import Metric
from scsave.progress import phase
from scsave.protocol import Context, Method, Outcome
from scsave.stats.pca import fit_pca, softened
from scsave.tasks.base import OneSplit

log = logging.getLogger("scsave")


@dataclass(kw_only=True)
class BatchCorrection(OneSplit):
    """Unsupervised: autoencoder and integration head are given technical columns (data.nuisance), never the cell type.

    `reference`: the batch that expression is decoded as; null is the mean over the batches. `unlabelled_batches` have no
    labels to trust: they are corrected with the rest, and left out of scores that need labels.
    """

    name: str = "batch_correction"
    reference: str | None = None
    unlabelled_batches: list[str] = field(default_factory=list)
    n_components: PositiveInt = 50
    max_cells: PositiveInt = 20_000
    asks = "batch_correction"
    takes_unlabelled = True
    metrics = "batch_correction"

    def parts(self, method: Method) -> frozenset[str]:
        return frozenset({"autoencoder", "head"})

    def check(self, columns: Columns) -> None:
        if columns.batch is None:
            raise UserError(
                f"task=batch_correction needs a batch column, {columns.name} names none: set data.batch_key; data sets with "
                f"one: {', '.join(data_with('batch_key', 'cell_type_key'))}"
            )

    def check_cells(self, columns: Columns, obs: pd.DataFrame) -> None:
        batches = obs[columns.batch].astype(str).value_counts()
        if len(batches) < 2:
            raise UserError(f"task=batch_correction: {columns.batch} has one batch only, {batches.index[0]}")
        if batches.min() < columns.min_level_cells:
            size = "one cell" if batches.min() == 1 else f"{batches.min()} cells"
            raise UserError(
                f"task=batch_correction: level '{batches.idxmin()}' of '{columns.batch}' has {size}, "
                f"{columns.min_level_cells} are needed; leave it out with "
                f"data.exclude='{{{columns.batch}: [{batches.idxmin()}]}}'"
            )
        named = [("unlabelled_batches", one) for one in self.unlabelled_batches]
        for key, level in [*named, ("reference", self.reference)]:
            if level is not None and level not in batches:
                levels = ", ".join(sorted(batches.index))
                raise UserError(f"task.{key}={level}: not a level of {columns.batch}; levels: {levels}")
        checked_labels(obs, columns.batch, columns.cell_type, self.unlabelled_batches)

    def run(self, context: Context) -> Outcome:
        data, columns, method = context.data, context.columns, context.method
        scorer = IntegrationScorer(
            data, columns.batch, columns.cell_type, self.unlabelled_batches, n_components=self.n_components,
            seed=context.seed, max_cells=self.max_cells, held_out=context.split.test,
        )  # fmt: skip
        if columns.cell_type is None:
            log.info("no cell types are named (data.cell_type_key): of the scores only iLISI and PCR can be computed")
        with phase("embedding"):
            integrated = self.integrated(method, data, context.seed)
        embedding = integrated.obsm[embedding_key(integrated)]
        corrected = keys.COMPONENTS in integrated.obsm
        integrated.obs = context.whole_obs(integrated.obs)
        before = np.full((data.n_obs, scorer.unintegrated.shape[1]), np.nan, dtype=np.float32)
        before[scorer.rows] = scorer.unintegrated
        integrated.obsm[keys.UNCORRECTED] = before
        write_h5ad(context.folder / "integrated.h5ad", integrated)
        scores = scorer.score({method.name: embedding}, {method.name: integrated} if corrected else None)
        return Outcome(scores=scores, info={"scorer": scorer.info, "reference": self.reference})

    def integrated(self, method: Method, data: AnnData, seed: int) -> AnnData:
        """The cells corrected by a fitted method, with softened components of expression where it corrects that.

        A method that has components of its own keeps them.
        """
        cells = method.integrate(data, seed, reference=self.reference)
        if keys.COMPONENTS not in cells.obsm and cells.uns[keys.UNS].get(keys.CORRECTED, False):
            axes = softened(fit_pca(cells.X, self.n_components, seed), cells.X)
            cells.obsm[keys.COMPONENTS] = axes(cells.X).astype(np.float32)
        return cells

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        raise UserError(
            "sweep_metric: task=batch_correction has no validation score: it is scored by the labels of all cells, and a "
            "search by them would fit the labels; sweep task=generation or task=perturbation, or a grid without sweep_metric"
        )


def embedding_key(cells: AnnData) -> str:
    """The one embedding that a method left, beside the components that the task adds."""
    (name,) = [
        key
        for key in cells.obsm
        if np.asarray(cells.obsm[key]).ndim == 2 and key not in (keys.COMPONENTS, keys.UNCORRECTED)
    ]
    return name
