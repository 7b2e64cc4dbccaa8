"""How well are batches corrected? scIB on embeddings, fold changes on corrected expression (evaluation.md)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.aggregate import NAN
from scsave.metrics.corrected import corrected_scores, fold_changes
from scsave.metrics.distribution import subsample
from scsave.metrics.registry import checked
from scsave.stats.pca import expression, fit_pca, softened
from scsave.threads import own_threads

UNINTEGRATED = "unintegrated"
OF_EXPRESSION = " (expression)"  # the row of a method's corrected expression, as scIB takes it
OF_COMPONENTS = " (components)"  # the row of its softened components
OF_CORRECTED = (OF_EXPRESSION, OF_COMPONENTS)
FEWEST_CELLS = 100  # scIB looks at 90 neighbours
BIO = {
    "isolated_labels": "isolated_labels",
    "nmi_ari_cluster_labels_kmeans_nmi": "kmeans_nmi",
    "nmi_ari_cluster_labels_kmeans_ari": "kmeans_ari",
    "silhouette_label": "silhouette_label",
    "clisi_knn": "clisi",
}
BATCH = {
    "bras": "bras",
    "ilisi_knn": "ilisi",
    "kbet_per_label": "kbet",
    "graph_connectivity": "graph_connectivity",
    "pcr_comparison": "pcr",
}
WITHOUT_LABELS = ("ilisi_knn", "pcr_comparison")
EXPRESSION_ROWS = ("marker_fold_change", "marker_fold_change_slope", "de_batch_agreement")


class IntegrationScorer:
    """Scores embeddings and corrected expression of the cells of `data` (prepared, uncorrected).

    Batches in `unlabelled_batches` have no labels to trust: their cells count for iLISI and PCR only, everything else
    is measured on the others. Without `label_key` nobody has: all but iLISI and PCR is NaN.
    Above `max_cells`, all rows are scored on one random subset.
    Raises UserError for missing columns, fewer than two batches or labels, and labels that no two batches share.
    """

    def __init__(
        self,
        data: AnnData,
        batch_key: str,
        label_key: str | None,
        unlabelled_batches: Sequence[str] = (),
        n_components: int = 50,
        seed: int = 0,
        max_cells: int = 20_000,
    ):
        for column in filter(None, (batch_key, label_key)):
            if column not in data.obs:
                present = ", ".join(map(str, data.obs.columns))
                raise UserError(f"batch correction: no column {column} in obs; columns: {present}")
        self.rows = subsample(data.n_obs, max_cells, seed)
        self.obs_names = data.obs_names
        self.genes = list(data.var_names)
        self.n_components, self.seed = n_components, seed
        self.batch = data.obs[batch_key].astype(str).to_numpy()[self.rows]
        self.label = data.obs[label_key].astype(str).to_numpy()[self.rows] if label_key else np.full(len(self.rows), "")
        if absent := sorted(set(map(str, unlabelled_batches)) - set(self.batch)):
            raise UserError(f"unlabelled batches: {', '.join(absent)} not in {batch_key}: {', '.join(set(self.batch))}")
        self.labelled = ~np.isin(self.batch, list(map(str, unlabelled_batches))) & (label_key is not None)
        self._check(batch_key, label_key)
        self._batch_codes = pd.factorize(self.batch[self.labelled], sort=True)[0]
        self._label_codes = pd.factorize(self.label[self.labelled], sort=True)[0]
        x = expression(data, "uncorrected cells")[self.rows]
        self._before = self._changes(x)
        self._unchanged = self._kept(x)
        self.unintegrated = fit_pca(x, n_components, seed)(x)  # (N, D)
        self.info: dict[str, Any] = {
            "cells": len(self.rows),
            "labelled_cells": int(self.labelled.sum()),
            "unlabelled_batches": sorted(set(self.batch[~self.labelled])),
            "batches": sorted(set(self.batch)),
            "labels": sorted(set(self.label[self.labelled])),
            "fold_change_groups": len(self._before.pairs) if self._before else 0,
            "components": int(self.unintegrated.shape[1]),
            "seed": seed,
        }

    def _changes(self, x: Any) -> Any:
        """Fold changes of labelled cells in expression (N, G); None where no cell is labelled."""
        if not self.labelled.any():
            return None
        return fold_changes(x[self.labelled], self._batch_codes, self._label_codes)

    def _kept(self, x: Any) -> dict[str, float]:
        """Scores of corrected expression (N, G)."""
        return corrected_scores(self._before, self._changes(x)) if self._before else dict.fromkeys(EXPRESSION_ROWS, NAN)

    def _check(self, batch_key: str, label_key: str | None) -> None:
        if label_key is None:
            if len(set(self.batch)) < 2 or len(self.batch) < FEWEST_CELLS:
                raise UserError(
                    f"batch correction scores need two levels of {batch_key} and {FEWEST_CELLS} cells, found "
                    f"{len(set(self.batch))} and {len(self.batch)}"
                )
            return
        batch, label = self.batch[self.labelled], self.label[self.labelled]
        for key, levels in ((batch_key, set(batch)), (label_key, set(label))):
            if len(levels) < 2:
                found = ", ".join(levels) or "none"
                raise UserError(f"batch correction needs two levels of {key} among labelled cells, found {found}")
        if len(batch) < FEWEST_CELLS:
            raise UserError(f"batch correction scores need {FEWEST_CELLS} labelled cells, found {len(batch)}")
        if pd.crosstab(label, batch).gt(0).sum(axis=1).max() < 2:
            raise UserError(f"batch correction: no level of {label_key} is in two levels of {batch_key}")

    def score(
        self, embeddings: Mapping[str, np.ndarray], corrected: Mapping[str, AnnData] | None = None
    ) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by row: `unintegrated` and the names of `embeddings` -> "all" -> metric -> value.

        `embeddings` are (N, D) over the cells of `data`; `corrected` the same cells with corrected log1p in `X`, for
        rows that have it (NaN for the others). Corrected expression has two rows of its own too: `<name> (expression)`, scIB
        of its principal components, which is how scIB scores methods that return expression (Luecken et al. 2022), and
        `<name> (components)`, of its softened ones: `obsm["X_components"]` where the cells have it.
        Raises UserError for another shape, order of cells, genes, or NaN.
        """
        corrected = corrected or {}
        if UNINTEGRATED in embeddings or (unknown := set(corrected) - set(embeddings)):
            problem = UNINTEGRATED if UNINTEGRATED in embeddings else ", ".join(sorted(unknown))
            raise ValueError(f"rows: '{problem}' is {UNINTEGRATED}'s own name or has no embedding")
        given = {name: self._embedding(name, embedding) for name, embedding in embeddings.items()}
        expressions = {name: self._expression(name, cells) for name, cells in corrected.items()}
        components = {}
        for name, x in expressions.items():
            pca, given_components = fit_pca(x, self.n_components, self.seed), corrected[name].obsm.get(keys.COMPONENTS)
            components[name + OF_EXPRESSION] = pca(x)
            components[name + OF_COMPONENTS] = (
                softened(pca, x)(x) if given_components is None else self._embedding(name, given_components)
            )
        scored = self._scib({UNINTEGRATED: self.unintegrated} | given | components)
        scored[UNINTEGRATED] |= self._unchanged
        for name in given:
            scored[name] |= dict.fromkeys(EXPRESSION_ROWS, NAN)
        for name, x in expressions.items():
            kept = self._kept(x)
            for part in ("", *OF_CORRECTED):
                scored[name + part] |= kept
        return {name: {keys.ALL: checked("batch_correction", values)} for name, values in scored.items()}

    def _embedding(self, name: str, embedding: np.ndarray) -> np.ndarray:
        embedding = np.asarray(embedding, dtype=np.float64)
        if embedding.ndim != 2 or len(embedding) != len(self.obs_names):
            raise UserError(f"embedding of {name}: shape {embedding.shape}, expected ({len(self.obs_names)}, D)")
        if not np.isfinite(embedding).all():
            raise UserError(f"embedding of {name}: {int((~np.isfinite(embedding)).sum())} values are NaN or infinite")
        return embedding[self.rows]

    def _expression(self, name: str, cells: AnnData) -> Any:
        """Corrected log1p expression of the scored cells, (N, G)."""
        if not cells.obs_names.equals(self.obs_names):
            raise UserError(f"corrected cells of {name}: not the cells of the data in their order")
        return expression(cells[self.rows], f"corrected cells of {name}", self.genes)

    def _scib(self, embeddings: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        with alone():
            import scib_metrics

            everyone = None
            if not self.labelled.all():
                everyone = self._benchmark(embeddings, np.ones(len(self.batch), dtype=bool), with_labels=False)
            if not self.labelled.any():
                return {str(name): self._unlabelled(row) for name, row in everyone.iterrows()}
            table = self._benchmark(embeddings, self.labelled, with_labels=True)
            if everyone is not None:
                table[list(WITHOUT_LABELS)] = everyone[list(WITHOUT_LABELS)]
            scores = {}
            for name, row in table.iterrows():
                values = {ours: float(row[theirs]) for theirs, ours in (BIO | BATCH).items()}
                values |= totals(values)
                values["silhouette_batch"] = float(
                    scib_metrics.silhouette_batch(
                        embeddings[name][self.labelled], self.label[self.labelled], self.batch[self.labelled]
                    )
                )
                scores[str(name)] = values
        return scores

    def _unlabelled(self, row: pd.Series) -> dict[str, float]:
        """What can be told without labels; NaN for all else."""
        values = {
            ours: float(row[theirs]) if theirs in WITHOUT_LABELS else NAN for theirs, ours in (BIO | BATCH).items()
        }
        return values | dict.fromkeys(("bio_conservation", "batch_removal", "total", "silhouette_batch"), NAN)

    def _benchmark(self, embeddings: dict[str, np.ndarray], cells: np.ndarray, with_labels: bool) -> pd.DataFrame:
        """The library's table, embedding x metric, not scaled between embeddings."""
        from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

        label = self.label if with_labels else np.full(len(self.label), "cell")
        obs = pd.DataFrame({"batch": self.batch[cells], "label": label[cells]}, index=self.obs_names[self.rows][cells])
        data = AnnData(obs=obs, obsm={name: embedding[cells] for name, embedding in embeddings.items()})
        benchmark = Benchmarker(
            data,
            batch_key="batch",
            label_key="label",
            embedding_obsm_keys=list(embeddings),
            bio_conservation_metrics=BioConservation() if with_labels else None,
            batch_correction_metrics=BatchCorrection()
            if with_labels
            else BatchCorrection(bras=False, kbet_per_label=False, graph_connectivity=False),
            pre_integrated_embedding_obsm_key=UNINTEGRATED,
            progress_bar=False,
        )
        benchmark.prepare(neighbor_computer=exact_neighbours)
        benchmark.benchmark()
        table = benchmark.get_results(min_max_scale=False, clean_names=False)
        return table.loc[list(embeddings)].astype(float)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, scib-metrics and jax say nothing; after it, torch has its threads back."""
    logging.disable(logging.INFO)  # some of what they say goes to the root logger
    try:
        with own_threads(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def exact_neighbours(x: np.ndarray, n_neighbors: int) -> Any:
    """Nearest neighbours of each cell, itself included, as scIB takes them.

    The library's default search is approximate and compiles for half a minute; scIB asks for 90 neighbours of some
    thousand cells, which exact search gives in seconds, the same on every machine.
    """
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(x).kneighbors(x)
    return NeighborsResults(indices=indices.astype(np.int32), distances=distances.astype(np.float32))


def totals(values: Mapping[str, float]) -> dict[str, float]:
    """scIB's aggregates: mean of each side, metrics that can't be computed left out, 0.6 bio + 0.4 batch."""
    bio, batch = (float(np.nanmean([values[name] for name in side.values()])) for side in (BIO, BATCH))
    return {"bio_conservation": bio, "batch_removal": batch, "total": 0.6 * bio + 0.4 * batch}
