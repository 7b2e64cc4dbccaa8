"""Scores of batch correction: scIB on embeddings, fold changes on corrected expression (evaluation.md)."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.metrics.cells import check_columns, expression
from scsave.metrics.differential import FoldChanges, corrected_scores, fold_changes
from scsave.metrics.registry import checked
from scsave.progress import each
from scsave.stats.agreement import NAN
from scsave.stats.pca import fit_pca, softened, sphered_half
from scsave.stats.resample import subsample
from scsave.threads import own_threads

UNINTEGRATED = "unintegrated"
OF_EXPRESSION = " (expression)"  # the row of a method's corrected expression, as scIB takes it
OF_COMPONENTS = " (components)"  # the row of its softened components
OF_SOFTENED = " (softened)"  # the same of the embedding of a method that corrects no expression
OF_CORRECTED = (OF_EXPRESSION, OF_COMPONENTS)
FEWEST_CELLS = 100  # scIB looks at 90 neighbours
NEIGHBOURS = 15  # that say what type a held-out cell is
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

    Cells without a label, and those of `unlabelled_batches`, whose labels are not to be trusted, count for iLISI and PCR
    only; everything else is measured on the others. Without `label_key` no cell has a label: all but iLISI and PCR is
    NaN. Above `max_cells`, all rows are scored on one random subset. `held_out`: positions of cells that the method did not
    learn from, for `transfer_accuracy`. Raises what `checked_labels` raises.
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
        held_out: np.ndarray | None = None,
    ):
        self.rows = subsample(data.n_obs, max_cells, seed)
        self.obs_names, self.genes = data.obs_names, list(data.var_names)
        self.n_components, self.seed = n_components, seed
        obs = data.obs.iloc[self.rows]
        self.batch, self.label, self.labelled = checked_labels(obs, batch_key, label_key, unlabelled_batches)
        self._held_out = np.isin(self.rows, [] if held_out is None else held_out)
        self._batch_codes = pd.factorize(self.batch[self.labelled], sort=True)[0]
        self._label_codes = pd.factorize(self.label[self.labelled], sort=True)[0]
        x = expression(data, "uncorrected cells")[self.rows]
        self._before = self._changes(x)
        self._unchanged = self._kept(x)
        self.unintegrated = fit_pca(x, n_components, seed)(x)  # (N, D)
        self.info: dict[str, Any] = {
            "cells": len(self.rows),
            "labelled_cells": int(self.labelled.sum()),
            "unlabelled_batches": sorted(set(self.batch) - set(self.batch[self.labelled])),
            "batches": sorted(set(self.batch)),
            "labels": sorted(set(self.label[self.labelled])),
            "fold_change_groups": len(self._before.pairs) if self._before else 0,
            "components": int(self.unintegrated.shape[1]),
            "seed": seed,
        }

    def _changes(self, x: sp.csr_matrix) -> FoldChanges | None:
        """Fold changes of labelled cells in expression (N, G); None where no cell is labelled."""
        if not self.labelled.any():
            return None
        return fold_changes(x[self.labelled], self._batch_codes, self._label_codes)

    def _kept(self, x: sp.csr_matrix) -> dict[str, float]:
        """Scores of corrected expression (N, G)."""
        return corrected_scores(self._before, self._changes(x)) if self._before else dict.fromkeys(EXPRESSION_ROWS, NAN)

    def score(
        self, embeddings: Mapping[str, np.ndarray], corrected: Mapping[str, AnnData] | None = None
    ) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by row: `unintegrated` and the names of `embeddings` -> "all" -> metric -> value.

        `embeddings` are (N, D) over the cells of `data`; `corrected` the same cells with corrected log1p in `X`, for
        rows that have it (NaN for the others). Corrected expression has two rows of its own too: `<name> (expression)`, scIB
        of its principal components, which is how scIB scores methods that return expression (Luecken et al. 2022), and
        `<name> (components)`, of its softened ones: `obsm["X_components"]` where the cells have it. A method that corrects no
        expression has `<name> (softened)`, its embedding with components softened likewise.
        Raises UserError for another shape, order of cells, genes, or NaN.
        """
        corrected = corrected or {}
        if UNINTEGRATED in embeddings or (unknown := set(corrected) - set(embeddings)):
            problem = UNINTEGRATED if UNINTEGRATED in embeddings else ", ".join(sorted(unknown))
            raise ValueError(f"rows: '{problem}' is {UNINTEGRATED}'s own name or has no embedding")
        given = {name: self._embedding(name, embedding) for name, embedding in embeddings.items()}
        kept, components = {UNINTEGRATED: self._unchanged}, {}
        for name, cells in corrected.items():
            x, own = self._expression(name, cells), cells.obsm.get(keys.COMPONENTS)
            pca = fit_pca(x, self.n_components, self.seed)
            components[name + OF_EXPRESSION] = pca(x)
            components[name + OF_COMPONENTS] = softened(pca, x)(x) if own is None else self._embedding(name, own)
            kept |= dict.fromkeys([name + part for part in ("", *OF_CORRECTED)], self._kept(x))
        components |= {name + OF_SOFTENED: sphered_half(x) for name, x in given.items() if name not in corrected}
        scored = self._scib({UNINTEGRATED: self.unintegrated} | given | components)
        nothing = dict.fromkeys(EXPRESSION_ROWS, NAN)
        return {
            name: {keys.ALL: checked("batch_correction", values | kept.get(name, nothing))}
            for name, values in scored.items()
        }

    def _embedding(self, name: str, embedding: np.ndarray) -> np.ndarray:
        embedding = np.asarray(embedding, dtype=np.float64)
        if embedding.ndim != 2 or len(embedding) != len(self.obs_names):
            raise UserError(f"embedding of {name}: shape {embedding.shape}, expected ({len(self.obs_names)}, D)")
        if not np.isfinite(embedding).all():
            raise UserError(f"embedding of {name}: {int((~np.isfinite(embedding)).sum())} values are NaN or infinite")
        return embedding[self.rows]

    def _expression(self, name: str, cells: AnnData) -> sp.csr_matrix:
        """Corrected log1p expression of the scored cells, (N, G)."""
        if not cells.obs_names.equals(self.obs_names):
            raise UserError(f"corrected cells of {name}: not the cells of the data in their order")
        return expression(cells[self.rows], f"corrected cells of {name}", self.genes)

    def _scib(self, embeddings: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """scIB's metrics and totals by row; of all cells what needs no labels, of labelled ones all else."""
        everyone = labelled = pd.DataFrame(NAN, index=list(embeddings), columns=[*BIO, *BATCH])
        unmixed = dict.fromkeys(embeddings, NAN)
        with quiet(), own_threads():
            import scib_metrics

            if self.labelled.any():
                labelled = self._benchmark(embeddings, self.labelled, with_labels=True)
                cells = self.label[self.labelled], self.batch[self.labelled]
                for name, x in embeddings.items():
                    unmixed[name] = float(scib_metrics.silhouette_batch(x[self.labelled], *cells))
            if not self.labelled.all():
                everyone = self._benchmark(embeddings, np.ones(len(self.batch), dtype=bool), with_labels=False)
                labelled = labelled.assign(**{name: everyone[name] for name in WITHOUT_LABELS})
        values = labelled.rename(columns=BIO | BATCH)[[*BIO.values(), *BATCH.values()]].to_dict("index")
        for name, one in values.items():
            one |= totals(one) | {"silhouette_batch": unmixed[name]}
            one["transfer_accuracy"] = self._transferred(embeddings[name])
        return values

    def _transferred(self, embedding: np.ndarray) -> float:
        """Share of held-out cells that their neighbours among the others call rightly; NaN where no cell is held out."""
        from sklearn.neighbors import KNeighborsClassifier

        known, asked = self.labelled & ~self._held_out, self.labelled & self._held_out
        if not asked.any() or known.sum() < NEIGHBOURS:
            return NAN
        model = KNeighborsClassifier(NEIGHBOURS).fit(embedding[known], self.label[known])
        return float(model.score(embedding[asked], self.label[asked]))

    def _benchmark(self, embeddings: dict[str, np.ndarray], cells: np.ndarray, with_labels: bool) -> pd.DataFrame:
        """The library's table, embedding x metric, not scaled between embeddings: one at a time, which changes no value."""
        from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

        label = self.label if with_labels else np.full(len(self.label), "cell")
        obs = pd.DataFrame({"batch": self.batch[cells], "label": label[cells]}, index=self.obs_names[self.rows][cells])
        data = AnnData(obs=obs, obsm={name: embedding[cells] for name, embedding in embeddings.items()})
        needs_labels = dict.fromkeys(("bras", "kbet_per_label", "graph_connectivity"), with_labels)
        tables = []
        for name in each(embeddings, "scoring by scIB", "rows"):
            benchmark = Benchmarker(
                data,
                batch_key="batch",
                label_key="label",
                embedding_obsm_keys=[name],
                bio_conservation_metrics=BioConservation() if with_labels else None,
                batch_correction_metrics=BatchCorrection(**needs_labels),
                pre_integrated_embedding_obsm_key=UNINTEGRATED,
                progress_bar=False,
            )
            benchmark.prepare(neighbor_computer=exact_neighbours)
            benchmark.benchmark()
            tables.append(benchmark.get_results(min_max_scale=False, clean_names=False).loc[[name]])
        return pd.concat(tables).astype(float)


def checked_labels(
    obs: pd.DataFrame, batch_key: str, label_key: str | None, unlabelled_batches: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch and label of each cell, (N,) str each, and whether the label is there and to be trusted, (N,) bool.

    Raises UserError, to be asked for before a method is trained, where scIB has nothing to compare: for missing columns,
    fewer than two batches or labels or too few cells among those with a label, and labels that no two batches share.
    """
    check_columns(obs, [key for key in (batch_key, label_key) if key], "batch correction")
    batch = obs[batch_key].astype(str).to_numpy()
    if absent := sorted(set(map(str, unlabelled_batches)) - set(batch)):
        raise UserError(f"unlabelled batches: {', '.join(absent)} not in {batch_key}: {', '.join(sorted(set(batch)))}")
    if label_key is None:
        if len(set(batch)) < 2 or len(batch) < FEWEST_CELLS:
            raise UserError(
                f"batch correction scores need two levels of {batch_key} and {FEWEST_CELLS} cells, found "
                f"{len(set(batch))} and {len(batch)}"
            )
        return batch, np.full(len(batch), ""), np.zeros(len(batch), dtype=bool)
    labelled = obs[label_key].notna().to_numpy() & ~np.isin(batch, list(map(str, unlabelled_batches)))
    label = obs[label_key].astype(str).to_numpy()
    for key, levels in ((batch_key, set(batch[labelled])), (label_key, set(label[labelled]))):
        if len(levels) < 2:
            found = ", ".join(levels) or "none"
            raise UserError(f"batch correction needs two levels of {key} among labelled cells, found {found}")
    if labelled.sum() < FEWEST_CELLS:
        raise UserError(f"batch correction scores need {FEWEST_CELLS} labelled cells, found {labelled.sum()}")
    if pd.crosstab(label[labelled], batch[labelled]).gt(0).sum(axis=1).max() < 2:
        raise UserError(f"batch correction: no level of {label_key} is in two levels of {batch_key}")
    return batch, label, labelled


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, scib-metrics and jax log and warn nothing; some of what they say goes to the root logger."""
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
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
    """scIB's aggregates: mean of each side, metrics that can't be computed left out, 0.6 bio + 0.4 batch.

    All NaN where nothing is known of biology: mixing alone is no score.
    """
    bio, batch = (np.array([values[name] for name in side.values()]) for side in (BIO, BATCH))
    if np.isnan(bio).all():
        return dict.fromkeys(("bio_conservation", "batch_removal", "total"), NAN)
    kept, mixed = float(np.nanmean(bio)), float(np.nanmean(batch))
    return {"bio_conservation": kept, "batch_removal": mixed, "total": 0.6 * kept + 0.4 * mixed}
