"""Task for perturbations that are sets of genes (CRISPR): sets never seen, scored by group (evaluation.md)."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.data.perturbations import canonical_names, parse
from scsave.data.splits.perturbation import CONTROL
from scsave.errors import UserError
from scsave.files import write_h5ad, write_text
from scsave.metrics.genetic import GeneticScorer
from scsave.metrics.registry import rows
from scsave.metrics.response import split_control
from scsave.metrics.row import Metric
from scsave.metrics.technical import DEPTH, balanced, depth_factor
from scsave.progress import each
from scsave.protocol import Context, Method, Outcome
from scsave.stats.expected import METRIC, TRUST, trust_table
from scsave.stats.resample import subsample
from scsave.tasks import genetic_outcome
from scsave.tasks.base import CounterfactualTask, Positive, reached
from scsave.tasks.validation import validation_split

log = logging.getLogger("scsave")
READ = METRIC["genetic"]  # the metric that the expected accuracy is of


@dataclass
class Problem:
    """What is scored: test perturbations, the control cells that predictions start from, and the scorer of both."""

    scorer: GeneticScorer
    control: AnnData  # predictions start here
    truth: AnnData  # control cells that changes are measured from
    real: AnnData
    groups: dict[str, list[str]]


def problem(task: Genetic, context: Context) -> Problem:
    """The test perturbations of the split, held-out control cells halved. UserError where no test cell is perturbed."""
    data, columns, split = context.data, context.columns, context.split
    labels = canonical_labels(context)
    test = split.test
    real = data[test[labels[test] != columns.control]].copy()
    if not real.n_obs:
        raise UserError(
            f"split {split.name} leaves no perturbed test cell; use split=perturbation, gears, ahlmann_eltze or "
            "random_perturbations"
        )
    real.obs[columns.perturbation] = labels[test[labels[test] != columns.control]]
    held, seen = test[labels[test] == columns.control], np.sort(np.concatenate([split.train, split.val]))
    if len(held) < 2:  # a split that shares out no control cells: those of training
        held = seen[labels[seen] == columns.control]
    tested, known = set(labels[test]) - {columns.control}, set(labels[split.train])
    if shown := tested & known:
        log.warning(
            "split %s: %d of %d test perturbations have cells in training, so they are not unseen; "
            "split=random_perturbations, gears and ahlmann_eltze hold out whole ones", split.name, len(shown), len(tested),
        )  # fmt: skip
    start, truth = split_control(balanced(data[held].copy(), real, columns.batch, 0, "test cells"), context.seed)
    # a change is measured from the cells that were moved
    start = start[subsample(start.n_obs, task.perturbation_cells, context.seed)].copy()
    parts = {name: rows for name, rows in split.parts().items() if name != CONTROL}  # none where the split names none
    groups = {name: sorted(set(labels[rows]) - {columns.control}) for name, rows in parts.items()}
    scorer = GeneticScorer(
        data[seen].copy(), start, truth, real, columns.perturbation, groups, columns.control,
        n_top_genes=task.n_top_genes, n_components=task.n_components, seed=context.seed,
    )  # fmt: skip
    return Problem(scorer, start, truth, real, groups)


def canonical_labels(context: Context) -> np.ndarray:
    """Perturbation of each cell, (N,) str, `B+A` as `A+B`."""
    columns = context.columns
    return canonical_names(context.data.obs[columns.perturbation], columns.control).to_numpy()


@dataclass(kw_only=True)
class Genetic(CounterfactualTask):
    """`perturbation_cells` held-out control cells are predicted under each test perturbation.

    `vectors` say which perturbed genes have no text (they are counted).
    """

    perturbation_cells: Positive = 300
    vectors: Any = None
    metrics = "genetic"

    def run(self, context: Context) -> Outcome:
        """Predict every test perturbation from held-out control cells by every row, score, and write the files."""
        data, columns, split = context.data, context.columns, context.split
        posed = problem(self, context)
        scorer, control, real, truth, groups = posed.scorer, posed.control, posed.real, posed.truth, posed.groups
        labels = canonical_labels(context)
        found, changes, headline = {}, {}, None
        asked = self.rows(context)
        for row in each(asked, "predicting and scoring", "rows"):
            method, route = asked[row]
            cells = predicted(method, control, scorer.perturbations, context.seed, route)
            found[row] = scorer.score(cells)
            changes[row] = genetic_outcome.mean_changes(cells, control, scorer.perturbations, columns.perturbation)
            headline = cells if headline is None else headline
        found[genetic_outcome.CEILING] = scorer.ceiling()
        arrays = {f"change/{row}": change for row, change in changes.items()}
        arrays |= genetic_outcome.halves(real, truth, scorer.perturbations, columns.perturbation, context.seed)
        arrays |= {"truth": scorer.truth.change, "perturbations": np.array(scorer.perturbations, dtype=str)}
        arrays |= {"panel": np.array(list(data.var_names), dtype=str)}
        arrays |= genetic_outcome.singles(data[split.train], labels[split.train], columns.control, scorer.perturbations)
        info = {"kind": "genes"} | scorer.info | {"genes_without_vector": self.without_vector(context, scorer)}
        info[DEPTH] = depth_factor(truth, real, "test cells")
        scored = found[context.method.name].per_perturbation[READ]
        method, route = asked[context.method.name]
        info[TRUST] = {n: reached(method.trust(control, n, route), scored[n]) for n in scorer.perturbations}
        headline.uns[TRUST] = trust_table(info[TRUST])
        outcome = genetic_outcome.outcome_of(found, arrays, info, groups, context.seed)
        write_h5ad(context.folder / genetic_outcome.PREDICTIONS, headline)
        write_text(context.folder / genetic_outcome.TABLE, genetic_outcome.table_of(outcome))
        genetic_outcome.write_changes(context.folder, outcome)
        return outcome

    def without_vector(self, context: Context, scorer: GeneticScorer) -> list[str]:
        """Perturbed genes that have no vector: those sit at the average one."""
        columns, labels = context.columns, canonical_labels(context)
        named = {str(name) for name in np.unique(labels[context.split.train])} | set(scorer.perturbations)
        genes = sorted({gene for name in named for gene in parse(name, columns.control)})
        ids = dict(context.data.var[keys.GENE_ID].astype(str)) if keys.GENE_ID in context.data.var else None
        vectors = self.vectors.bind(context.data)
        has = vectors.lookup(genes, columns.organism, ids and [ids.get(gene, "") for gene in genes])[1]
        return [gene for gene, is_known in zip(genes, has, strict=True) if not is_known]

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        return rows("genetic")

    def validate(self, context: Context) -> dict[str, float]:
        """The method's headline route on the validation perturbations."""
        split = validation_split(context.split)
        if (canonical_labels(context)[split.test] == context.columns.control).all():
            raise UserError(
                f"sweep_metric: split {context.split.name} has no validation perturbation; use split=gears or "
                "ahlmann_eltze"
            )
        posed = problem(self, dataclasses.replace(context, split=split))
        route = self.routes_of(context.method)[0]
        cells = predicted(context.method, posed.control, posed.scorer.perturbations, context.seed, route)
        return posed.scorer.score(cells).groups[keys.ALL]

    def merge(self, outcomes: dict[str, Outcome], folder: Path) -> Outcome:
        outcome = genetic_outcome.merge_genetic(outcomes)
        genetic_outcome.write_merged(folder, outcome, list(outcomes))
        return outcome


def predicted(method: Method, control: AnnData, names: list[str], seed: int, route: str) -> AnnData:
    """The control cells under each perturbation of `names`, stacked."""
    shown = each(names, "sampling", "perturbations")
    parts = {name: method.respond(control, name, seed + number, route) for number, name in enumerate(shown)}
    return ad.concat(parts, merge="same", uns_merge="first", index_unique="-")
