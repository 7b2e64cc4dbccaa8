"""`task=perturbation` for sets of genes (CRISPR): perturbations never seen, scored by group (evaluation.md)."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.perturbation_splits import CONTROL
from scsave.data.perturbations import canonical, parse
from scsave.errors import UserError
from scsave.results.files import write_h5ad, write_text
from scsave.results.folds import run_folder
from scsave.tasks.base import Context, Method, Outcome
from scsave.tasks.validation import validation_split

if TYPE_CHECKING:
    from scsave.metrics.genetic import GeneticScorer, GeneticScores
    from scsave.tasks.perturbation import Perturbation

log = logging.getLogger("scsave")
NO_SKILL = "perturbed_mean"  # where the dynamic range begins
CEILING = "ceiling"


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

    data, source, split = context.data, context.source, context.split
    labels = canonical_labels(context)
    test = split.test
    real = data[test[labels[test] != source.control]].copy()
    if not real.n_obs:
        raise UserError(
            f"split {split.name} leaves no perturbed test cell; use split=perturbation, gears or ahlmann_eltze"
        )
    real.obs[source.perturbation_key] = labels[test[labels[test] != source.control]]
    held = test[labels[test] == source.control]
    if len(held) < 2:  # a split that shares out no control cells: those of training
        held = np.flatnonzero(labels == source.control)
    start, truth = split_control(data[held].copy(), context.seed)
    seen = np.sort(np.concatenate([split.train, split.val]))
    groups = test_groups(context, labels)
    scorer = GeneticScorer(
        data[seen].copy(), start, truth, real, source.perturbation_key, groups, source.control,
        n_top_genes=task.n_top_genes, n_components=task.n_components, seed=context.seed,
    )  # fmt: skip
    return Problem(scorer, limited(start, task.perturbation_cells, context.seed), truth, real, groups)


def canonical_labels(context: Context) -> np.ndarray:
    """Perturbation of each cell, (N,) str, `B+A` as `A+B`."""
    source = context.source
    names = context.data.obs[source.perturbation_key].astype(str)
    return names.map(lambda name: canonical(name, source.control)).to_numpy()


def validate_genetic(task: Perturbation, context: Context) -> dict[str, float]:
    """The method's headline route on the validation perturbations."""
    split = validation_split(context.split)
    if (canonical_labels(context)[split.test] == context.source.control).all():
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

    data, source, split = context.data, context.source, context.split
    posed = problem(task, context)
    scorer, control, real, truth, groups = posed.scorer, posed.control, posed.real, posed.truth, posed.groups
    labels = canonical_labels(context)
    found, changes, headline = {}, {}, None
    for row, method, route in methods(task, context):
        log.info("predicting %s", row)
        cells = predicted(method, control, scorer.perturbations, context.seed, route)
        found[row] = scorer.score(cells)
        changes[row] = mean_changes(cells, control, scorer.perturbations, source.perturbation_key)
        headline = cells if headline is None else headline
    found[CEILING] = scorer.ceiling()
    arrays = {f"change/{row}": change for row, change in changes.items()}
    arrays |= halves(real, truth, scorer.perturbations, source.perturbation_key, context.seed)
    arrays |= {"truth": scorer.delta_truth, "perturbations": np.array(scorer.perturbations, dtype=str)}
    arrays |= {"panel": np.array(list(data.var_names), dtype=str)}
    arrays |= singles(data[split.train], labels[split.train], source.control, scorer.perturbations)
    outcome = outcome_of(found, arrays, scorer.info | vectors_info(context.method), groups, context.seed)
    folder = run_folder(context.folder)
    if folder == context.folder:
        write_h5ad(folder / "predictions.h5ad", headline)
        write_text(folder / "per_perturbation.csv", outcome.info["table"])
        outcome.draw = lambda where: draw_genetic(where, outcome)
    else:
        write_h5ad(context.folder / "predictions.h5ad", headline)
    return outcome


def methods(task: Perturbation, context: Context) -> list[tuple[str, Method, str]]:
    """Row, method and route: the method with all its routes, then what it must be read against."""
    method = context.method
    routes = [task.route, *(r for r in task.routes if r != task.route)] if method.name == "scsave" else method.routes
    rows = [(method.name if n == 0 else f"{method.name}_{route}", method, route) for n, route in enumerate(routes)]
    for reference in reference_methods(task, context):
        if reference.name != method.name:
            reference.fit(context.data, context.split, context.source, context.seed)
            rows.append((reference.name, reference, reference.routes[0]))
    return rows


def reference_methods(task: Perturbation, context: Context) -> list[Method]:
    """The baselines that must be beaten, always in the table."""
    from scsave.baselines.genetic import Additive, PerturbedMean
    from scsave.baselines.knowledge import Bilinear, NearestText
    from scsave.baselines.matching_mean import MatchingMean
    from scsave.baselines.response import NoChange

    vectors = task.vectors.bind(context.data)
    texts: list[Method] = [Bilinear(vectors=vectors, missing="mean")]
    labels = context.data.obs[context.source.perturbation_key].astype(str).iloc[context.split.train].unique()
    if any(len(parse(label, context.source.control)) == 1 for label in labels):
        texts.append(NearestText(vectors=vectors, missing="mean"))
    return [NoChange(), PerturbedMean(), MatchingMean(), Additive(), *texts]


def predicted(method: Method, control: AnnData, names: list[str], seed: int, route: str) -> AnnData:
    """The control cells under each perturbation of `names`, stacked."""
    parts = {name: method.respond(control, name, seed + number, route) for number, name in enumerate(names)}
    return ad.concat(parts, merge="same", uns_merge="first", index_unique="-")


def limited(cells: AnnData, most: int, seed: int) -> AnnData:
    if cells.n_obs <= most:
        return cells
    return cells[np.sort(np.random.default_rng(seed).choice(cells.n_obs, most, replace=False))].copy()


def test_groups(context: Context, labels: np.ndarray) -> dict[str, list[str]]:
    """Perturbations of each named part of the test cells; none where the split names no parts."""
    parts = {name: rows for name, rows in context.split.parts().items() if name != CONTROL}
    return {name: sorted(set(labels[rows]) - {context.source.control}) for name, rows in parts.items()}


def mean_changes(cells: AnnData, control: AnnData, names: list[str], key: str) -> np.ndarray:
    """Change of the mean from `control`, (P, G)."""
    from scsave.metrics.differential import group_moments

    codes = pd.Index(names).get_indexer(cells.obs[key].astype(str))
    return group_moments(cells.X, codes, len(names)).mean - np.asarray(control.X.mean(axis=0)).ravel()


def halves(real: AnnData, control: AnnData, names: list[str], key: str, seed: int) -> dict[str, np.ndarray]:
    """Changes of two halves of each perturbation's real cells, (P, G) each: what the pooled ceiling is made of."""
    from scsave.metrics.sampling import half

    first = half(real.obs[key].astype(str).to_numpy(dtype=object), seed)
    return {f"half/{n}": mean_changes(real[rows], control, names, key) for n, rows in enumerate((first, ~first))}


def singles(train: AnnData, labels: np.ndarray, control: str, names: list[str]) -> dict[str, np.ndarray]:
    """The additive change (P, G) of each test set from the single perturbations of training; NaN where one is missing."""
    from scsave.metrics.differential import group_moments

    codes, levels = pd.factorize(labels, sort=True)
    found = group_moments(train.X, codes, len(levels)).mean
    of = {str(level): mean for level, mean in zip(levels, found, strict=True)}
    nothing = np.full(train.n_vars, np.nan)
    rows = []
    for name in names:
        genes = parse(name, control)
        rows.append(np.sum([of[g] - of[control] if g in of else nothing for g in genes], axis=0))
    return {"additive": np.array(rows)}


def vectors_info(method: Any) -> dict[str, Any]:
    """How many perturbed genes have no vector, and the weights of the head."""
    head = getattr(method, "head", None)
    if head is None:
        return {}
    return {"genes_without_vector": list(getattr(head, "without", [])), "response_weights": dict(head.chosen)}


def outcome_of(
    found: dict[str, GeneticScores], arrays: dict[str, np.ndarray], info: dict[str, Any], groups: dict, seed: int
) -> Outcome:
    """Scores by row and group, intervals and dynamic range beside them, the table per perturbation as text."""
    from scsave.metrics.aggregate import dynamic_range

    scores = {row: one.groups for row, one in found.items()}
    intervals = {row: one.intervals for row, one in found.items()}
    reach: dict[str, Any] = {}
    if NO_SKILL in scores:
        for row, by_group in scores.items():
            reach[row] = {
                group: {
                    metric: dynamic_range(value, scores[NO_SKILL][group][metric], scores[CEILING][group][metric])
                    for metric, value in values.items()
                }
                for group, values in by_group.items()
            }
    group_of = {name: group for group, names in groups.items() for name in names}
    tables = {row: one.per_perturbation for row, one in found.items()}
    arrays |= {f"table/{row}": table.to_numpy(np.float64) for row, table in tables.items()}
    arrays["metrics"] = np.array(list(next(iter(tables.values())).columns), dtype=str)
    long = pd.concat(tables, names=["row", "perturbation"])
    long.insert(0, "group", [group_of.get(name, "") for name in long.index.get_level_values("perturbation")])
    info = info | {
        "intervals": intervals,
        "dynamic_range": reach,
        "dynamic_range_from": NO_SKILL,
        "counts": next(iter(found.values())).counts,
        "interactions": interactions(arrays),
        "group_of": group_of,
        "seed": seed,
        "table": long.to_csv(),
    }
    return Outcome(scores=scores, info=info, registry="genetic", arrays=arrays)


def interactions(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Pearson of predicted and observed interaction (change minus additive) over all doubles with known singles."""
    from scsave.metrics.agreement import pearson

    known = ~np.isnan(arrays["additive"]).any(axis=1)
    known &= np.array(["+" in name for name in arrays["perturbations"]], dtype=bool)
    if not known.any():
        return {}
    base = arrays["additive"][known]
    observed = (arrays["truth"][known] - base).ravel()
    rows = {key.removeprefix("change/"): change for key, change in arrays.items() if key.startswith("change/")}
    return {row: pearson(observed, (change[known] - base).ravel()) for row, change in rows.items()}


def merge_genetic(task: Perturbation, outcomes: dict[str, Outcome]) -> Outcome:
    """All folds together: tables stacked, and the discrimination score taken anew over all perturbations at once."""
    from scsave.metrics.aggregate import bootstrap_interval, mean_of
    from scsave.metrics.genetic import GeneticScores
    from scsave.metrics.perturbation_level import discrimination
    from scsave.results.genetic_figures import draw_genetic

    parts = list(outcomes.values())
    first = parts[0]
    panels = [set(part.arrays["panel"]) for part in parts]
    shared = [gene for gene in first.arrays["panel"] if all(gene in panel for panel in panels)]

    def stacked(key: str) -> np.ndarray:
        aligned = (part.arrays[key][:, pd.Index(part.arrays["panel"]).get_indexer(shared)] for part in parts)
        return np.concatenate(list(aligned))

    names = [str(name) for part in parts for name in part.arrays["perturbations"]]
    place = {gene: at for at, gene in enumerate(shared)}
    targets = [np.array([place[g] for g in parse(name) if g in place], dtype=np.int64) for name in names]
    group_of = {name: group for part in parts for name, group in part.info["group_of"].items()}
    groups = {keys.ALL: names}
    for name, group in group_of.items():
        groups.setdefault(group, []).append(name)
    columns, seed = [str(m) for m in first.arrays["metrics"]], int(first.info["seed"])
    wide = [key for key in first.arrays if key.startswith(("change/", "half/")) or key in ("truth", "additive")]
    arrays = {key: stacked(key) for key in wide}
    found = {}
    for key in (key for key in first.arrays if key.startswith("table/")):
        row = key.removeprefix("table/")
        rows = np.concatenate([part.arrays[key] for part in parts])
        table = pd.DataFrame(rows, index=pd.Index(names), columns=columns)
        if row == CEILING:
            one, two = arrays["half/0"], arrays["half/1"]
            table["discrimination"] = (discrimination(one, two, targets) + discrimination(two, one, targets)) / 2
        else:
            table["discrimination"] = discrimination(arrays[f"change/{row}"], arrays["truth"], targets)
        means, intervals = {}, {}
        for group, members in groups.items():
            part = table.loc[members]
            means[group] = {name: mean_of(part[name].to_numpy()) for name in table}
            intervals[group] = {name: bootstrap_interval(part[name].to_numpy(), seed) for name in table}
        found[row] = GeneticScores(table, means, intervals, {group: len(members) for group, members in groups.items()})
    arrays |= {"perturbations": np.array(names, dtype=str), "panel": np.array(shared, dtype=str)}
    info = {"folds": {name: {k: part.info.get(k) for k in ("response_weights",)} for name, part in outcomes.items()}}
    info |= {"genes": len(shared)}
    named = {group: members for group, members in groups.items() if group != keys.ALL}
    outcome = outcome_of(found, arrays, info, named, seed)
    outcome.draw = lambda folder: draw_merged(folder, outcome, draw_genetic)
    return outcome


def draw_merged(folder, outcome: Outcome, draw) -> None:
    write_text(folder.parent / "per_perturbation.csv", outcome.info["table"])
    draw(folder, outcome)
