"""What is kept of predicted gene sets: scores with intervals and range, changes, interactions; and folds put together."""

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.data.perturbations import parse
from scsave.files import FOLDS, slug, write_h5ad, write_npz, write_text
from scsave.metrics.genetic import GeneticScores
from scsave.metrics.perturbation_level import discrimination
from scsave.metrics.registry import rows
from scsave.metrics.technical import DEPTH
from scsave.protocol import Outcome
from scsave.stats.agreement import pearson
from scsave.stats.expected import TRUST
from scsave.stats.moments import group_moments
from scsave.stats.resample import half

NO_SKILL = "perturbed_mean"  # where the dynamic range begins
CEILING = "ceiling"
PREDICTIONS, TABLE, CHANGES = "predictions.h5ad", "per_perturbation.csv", "changes.npz"


def mean_changes(cells: AnnData, control: AnnData, names: list[str], key: str) -> np.ndarray:
    """Change of the mean from `control`, (P, G)."""
    codes = pd.Index(names).get_indexer(cells.obs[key].astype(str))
    return group_moments(cells.X, codes, len(names)).mean - np.asarray(control.X.mean(axis=0)).ravel()


def halves(real: AnnData, control: AnnData, names: list[str], key: str, seed: int) -> dict[str, np.ndarray]:
    """Changes of two halves of each perturbation's real cells, (P, G) each: what the pooled ceiling is made of."""
    first = half(real.obs[key].astype(str).to_numpy(dtype=object), seed)
    return {f"half/{n}": mean_changes(real[rows], control, names, key) for n, rows in enumerate((first, ~first))}


def singles(train: AnnData, labels: np.ndarray, control: str, names: list[str]) -> dict[str, np.ndarray]:
    """The additive change (P, G) of each test set from the single perturbations of training; NaN where one is missing."""
    codes, levels = pd.factorize(labels, sort=True)
    found = group_moments(train.X, codes, len(levels)).mean
    of = {str(level): mean for level, mean in zip(levels, found, strict=True)}
    nothing = np.full(train.n_vars, np.nan)
    rows = []
    for name in names:
        genes = parse(name, control)
        rows.append(np.sum([of[g] - of[control] if g in of else nothing for g in genes], axis=0))
    return {"additive": np.array(rows)}


def outcome_of(
    found: dict[str, GeneticScores], arrays: dict[str, np.ndarray], info: dict[str, Any], groups: dict, seed: int
) -> Outcome:
    """Scores by row and group, intervals and dynamic range beside them, the table per perturbation as text."""
    scores, of = {row: one.groups for row, one in found.items()}, rows("genetic")

    def reached(values: dict[str, float], group: str) -> dict[str, float]:
        low, high = scores[NO_SKILL][group], scores[CEILING][group]
        return {name: of[name].dynamic_range(value, low[name], high[name]) for name, value in values.items()}

    begun = scores if NO_SKILL in scores else {}  # else nothing says where the range begins
    reach = {row: {group: reached(values, group) for group, values in one.items()} for row, one in begun.items()}
    group_of = {name: group for group, names in groups.items() for name in names}
    tables = {row: one.per_perturbation for row, one in found.items()}
    arrays |= {f"table/{row}": table.to_numpy(np.float64) for row, table in tables.items()}
    arrays["metrics"] = np.array(list(next(iter(tables.values())).columns), dtype=str)
    info = info | {
        "intervals": {row: one.intervals for row, one in found.items()}, "dynamic_range": reach,
        "dynamic_range_from": NO_SKILL, "counts": next(iter(found.values())).counts,
        "interactions": interactions(arrays), "group_of": group_of, "seed": seed,
        "per_perturbation": {row: table.to_dict("index") for row, table in tables.items()},
    }  # fmt: skip
    return Outcome(scores=scores, info=info, arrays=arrays)


def table_of(outcome: Outcome) -> str:
    """`per_perturbation.csv`: a line for each row and perturbation."""
    tables = {row: pd.DataFrame.from_dict(t, orient="index") for row, t in outcome.info["per_perturbation"].items()}
    long = pd.concat(tables, names=["row", "perturbation"])
    group_of = outcome.info["group_of"]
    long.insert(0, "group", [group_of.get(name, "") for name in long.index.get_level_values("perturbation")])
    return long.to_csv()


def write_changes(folder: Path, outcome: Outcome) -> None:
    """`changes.npz`, what figures are drawn from: `truth`, `change` (of the headline row) and `additive` by perturbation,
    (P, G) each, with the names of `perturbations` and of the genes (`panel`)."""
    arrays = outcome.arrays | {"change": outcome.arrays[f"change/{next(iter(outcome.scores))}"]}
    kept = ("perturbations", "panel", "truth", "change", "additive")
    write_npz(folder / CHANGES, **{key: arrays[key] for key in kept})


def interactions(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Pearson of predicted and observed interaction (change minus additive) over all doubles with known singles."""
    known = ~np.isnan(arrays["additive"]).any(axis=1)
    known &= np.array(["+" in name for name in arrays["perturbations"]], dtype=bool)
    if not known.any():
        return {}
    base = arrays["additive"][known]
    observed = (arrays["truth"][known] - base).ravel()
    rows = {key.removeprefix("change/"): change for key, change in arrays.items() if key.startswith("change/")}
    return {row: pearson(observed, (change[known] - base).ravel()) for row, change in rows.items()}


def merge_genetic(outcomes: dict[str, Outcome]) -> Outcome:
    """All folds together: tables stacked, and the discrimination score taken anew over all perturbations at once."""
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
    # a baseline may be missing where a fold left nothing to learn it from
    everywhere = [key for key in first.arrays if all(key in part.arrays for part in parts)]
    wide = [key for key in everywhere if key.startswith(("change/", "half/")) or key in ("truth", "additive")]
    arrays = {key: stacked(key) for key in wide}
    found = {}
    for key in (key for key in everywhere if key.startswith("table/")):
        row = key.removeprefix("table/")
        rows = np.concatenate([part.arrays[key] for part in parts])
        table = pd.DataFrame(rows, index=pd.Index(names), columns=columns)
        if row == CEILING:
            one, two = arrays["half/0"], arrays["half/1"]
            table["discrimination"] = (discrimination(one, two, targets) + discrimination(two, one, targets)) / 2
        else:
            table["discrimination"] = discrimination(arrays[f"change/{row}"], arrays["truth"], targets)
        found[row] = GeneticScores.of(table, groups, seed)
    arrays |= {"perturbations": np.array(names, dtype=str), "panel": np.array(shared, dtype=str)}
    absent = sorted({gene for part in parts for gene in part.info["genes_without_vector"]})
    info = {"kind": "genes", "folds": list(outcomes), "genes": len(shared), "genes_without_vector": absent}
    depths = [part.info.get(DEPTH, float("nan")) for part in parts]
    info[DEPTH] = max(depths, key=lambda factor: abs(np.log(factor)) if factor > 0 else -1.0)
    info[TRUST] = {name: one for part in parts for name, one in part.info[TRUST].items()}
    named = {group: members for group, members in groups.items() if group != keys.ALL}
    return outcome_of(found, arrays, info, named, seed)


def write_merged(folder: Path, outcome: Outcome, folds: list[str]) -> None:
    """The table of all folds, and their predicted cells in one file (the genes that all of them have)."""
    write_text(folder / TABLE, table_of(outcome))
    write_changes(folder, outcome)
    paths = [folder / FOLDS / slug(name) / PREDICTIONS for name in folds]
    if cells := [ad.read_h5ad(path) for path in paths if path.exists()]:
        together = ad.concat(cells, join="inner", merge="same", uns_merge="first", index_unique="-")
        write_h5ad(folder / PREDICTIONS, together)
