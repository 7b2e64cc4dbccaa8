"""`task=perturbation` for sets of genes (CRISPR): perturbations never seen, scored by group (evaluation.md)."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.data.perturbations import canonical, parse
from scsave.data.splits.perturbation import CONTROL
from scsave.errors import UserError
from scsave.files import write_h5ad, write_text
from scsave.protocol import Context, Method, Outcome
from scsave.runs.folds import run_folder
from scsave.stats.resample import subsample
from scsave.tasks.genetic_outcome import (
    CEILING,
    PREDICTIONS,
    TABLE,
    halves,
    mean_changes,
    outcome_of,
    singles,
    table_of,
)
from scsave.tasks.validation import validation_split

if TYPE_CHECKING:
    from scsave.metrics.genetic import GeneticScorer
    from scsave.tasks.perturbation import Perturbation

log = logging.getLogger("scsave")


@dataclass
class Problem:
    """What is scored: test perturbations, the control cells that predictions start from, and the scorer of both."""

    scorer: GeneticScorer
    control: AnnData  # predictions start here
    truth: AnnData  # control cells that changes are measured from
    real: AnnData
    groups: dict[str, list[str]]


def problem(task: Perturbation, context: Context) -> Problem:
    """The test perturbations of the split, held-out control cells halved. UserError where no test cell is perturbed."""
    from scsave.metrics.genetic import GeneticScorer
    from scsave.metrics.response import split_control

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
    start, truth = split_control(data[held].copy(), context.seed)
    start = limited(start, task.perturbation_cells, context.seed)  # a change is measured from the cells that were moved
    groups = test_groups(context, labels)
    scorer = GeneticScorer(
        data[seen].copy(), start, truth, real, columns.perturbation, groups, columns.control,
        n_top_genes=task.n_top_genes, n_components=task.n_components, seed=context.seed,
    )  # fmt: skip
    return Problem(scorer, start, truth, real, groups)


def canonical_labels(context: Context) -> np.ndarray:
    """Perturbation of each cell, (N,) str, `B+A` as `A+B`."""
    columns = context.columns
    names = context.data.obs[columns.perturbation].astype(str)
    return names.map(lambda name: canonical(name, columns.control)).to_numpy()


def validate_genetic(task: Perturbation, context: Context) -> dict[str, float]:
    """The method's headline route on the validation perturbations."""
    split = validation_split(context.split)
    if (canonical_labels(context)[split.test] == context.columns.control).all():
        raise UserError(
            f"sweep_metric: split {context.split.name} has no validation perturbation; use split=gears or ahlmann_eltze"
        )
    posed = problem(task, dataclasses.replace(context, split=split))
    route = task.route if context.method.name == "scsave" else context.method.routes[0]
    cells = predicted(context.method, posed.control, posed.scorer.perturbations, context.seed, route)
    return posed.scorer.score(cells).groups[keys.ALL]


def run_genetic(task: Perturbation, context: Context) -> Outcome:
    """Predict every test perturbation from held-out control cells by every row, score, and write the files."""
    from scsave.results.genetic_figures import draw_genetic

    data, columns, split = context.data, context.columns, context.split
    posed = problem(task, context)
    scorer, control, real, truth, groups = posed.scorer, posed.control, posed.real, posed.truth, posed.groups
    labels = canonical_labels(context)
    found, changes, headline = {}, {}, None
    for row, method, route in methods(task, context):
        log.info("predicting %s", row)
        cells = predicted(method, control, scorer.perturbations, context.seed, route)
        found[row] = scorer.score(cells)
        changes[row] = mean_changes(cells, control, scorer.perturbations, columns.perturbation)
        headline = cells if headline is None else headline
    found[CEILING] = scorer.ceiling()
    arrays = {f"change/{row}": change for row, change in changes.items()}
    arrays |= halves(real, truth, scorer.perturbations, columns.perturbation, context.seed)
    arrays |= {"truth": scorer.delta_truth, "perturbations": np.array(scorer.perturbations, dtype=str)}
    arrays |= {"panel": np.array(list(data.var_names), dtype=str)}
    arrays |= singles(data[split.train], labels[split.train], columns.control, scorer.perturbations)
    info = scorer.info | vectors_info(task, context, scorer.perturbations)
    outcome = outcome_of(found, arrays, info, groups, context.seed)
    write_h5ad(context.folder / PREDICTIONS, headline)
    if run_folder(context.folder) == context.folder:
        write_text(context.folder / TABLE, table_of(outcome))
        outcome.draw = lambda where: draw_genetic(where, outcome)
    return outcome


def methods(task: Perturbation, context: Context) -> list[tuple[str, Method, str]]:
    """Row, method and route: the method with all its routes, then what it must be read against."""
    from scsave.baselines.knowledge import Bilinear
    from scsave.baselines.response import CARRY

    method = context.method
    routes = [task.route, *(r for r in task.routes if r != task.route)] if method.name == "scsave" else method.routes
    rows = [(method.name if n == 0 else f"{method.name}_{route}", method, route) for n, route in enumerate(routes)]
    for reference in reference_methods(task, context):
        if reference.name != method.name:
            reference.fit(context.data, context.split, context.columns, context.seed)
            rows.append((reference.name, reference, reference.routes[0]))
            if isinstance(reference, Bilinear):  # the strongest, also with what our head has: pooled control, counts
                rows.append((f"{reference.name}_{CARRY}", reference, CARRY))
    return rows


def reference_methods(task: Perturbation, context: Context) -> list[Method]:
    """The baselines that must be beaten, always in the table."""
    from scsave.baselines.genetic import Additive, PerturbedMean, PooledControl
    from scsave.baselines.knowledge import Bilinear, NearestText
    from scsave.baselines.matching_mean import MatchingMean
    from scsave.baselines.response import NoChange

    vectors = task.vectors.bind(context.data)
    texts: list[Method] = [Bilinear(vectors=vectors, missing="mean")]
    labels = context.data.obs[context.columns.perturbation].astype(str).iloc[context.split.train].unique()
    if any(len(parse(label, context.columns.control)) == 1 for label in labels):
        texts.append(NearestText(vectors=vectors, missing="mean"))
    return [NoChange(), PooledControl(), PerturbedMean(), MatchingMean(), Additive(), *texts]


def predicted(method: Method, control: AnnData, names: list[str], seed: int, route: str) -> AnnData:
    """The control cells under each perturbation of `names`, stacked."""
    parts = {name: method.respond(control, name, seed + number, route) for number, name in enumerate(names)}
    return ad.concat(parts, merge="same", uns_merge="first", index_unique="-")


def limited(cells: AnnData, most: int, seed: int) -> AnnData:
    if cells.n_obs <= most:
        return cells
    return cells[subsample(cells.n_obs, most, seed)].copy()


def test_groups(context: Context, labels: np.ndarray) -> dict[str, list[str]]:
    """Perturbations of each named part of the test cells; none where the split names no parts."""
    parts = {name: rows for name, rows in context.split.parts().items() if name != CONTROL}
    return {name: sorted(set(labels[rows]) - {context.columns.control}) for name, rows in parts.items()}


def vectors_info(task: Perturbation, context: Context, names: list[str]) -> dict[str, Any]:
    """Which perturbed genes have no vector (those sit at the average one), and the weights of the head."""
    columns, labels = context.columns, canonical_labels(context)
    trained = {str(name) for name in np.unique(labels[context.split.train])}
    genes = sorted({gene for name in trained | set(names) for gene in parse(name, columns.control)})
    ids = dict(context.data.var[keys.GENE_ID].astype(str)) if keys.GENE_ID in context.data.var else None
    found = task.vectors.bind(context.data).lookup(genes, columns.organism, ids and [ids.get(g, "") for g in genes])[1]
    info: dict[str, Any] = {"genes_without_vector": [g for g, has in zip(genes, found, strict=True) if not has]}
    if (head := getattr(context.method, "head", None)) is not None:
        info |= {
            "response_weights": dict(head.chosen),
            "response_scale": head.on,
            "response_surplus": head.share,
            "left_out_error": head.left_out_error,
        }
    return info
