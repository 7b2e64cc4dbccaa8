"""Do our scores of perturbation agree with cell-eval's (Arc Institute), which knows nothing of our code?

    python scripts/cell_eval_check.py                                        simulated cells, baseline `additive`
    python scripts/cell_eval_check.py --predicted p.h5ad --real r.h5ad --key perturbation --control control
    python scripts/cell_eval_check.py --run outputs/perturbation/...         every held-out type of a run

Both files hold log1p expression in X, the same genes, and control cells: those that the prediction starts from in
--predicted, those that the truth is measured from in --real. --run makes these files from the run's `predictions/`, its
config and its data, and compares cell-eval's scores with the run's results.json. Needs the extra `baselines`. Exit code 1
where a shared metric differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.errors import UserError
from scsave.packages import Needs, require

SHARED = {"pearson_delta": "pcc_delta", "discrimination_score_l1": "discrimination"}  # theirs -> ours
ROWS = (
    "pcc_delta",
    "r2_delta",
    "pcc_delta_one_control",
    "r2",
)  # of results.json, from cell-eval's pearson_delta and MSEs
TOLERANCE = 1e-6


def simulated(seed: int) -> tuple[AnnData, AnnData, str, str]:
    """Predicted and real cells of held-out doubles with small effects, predictions of `additive`.

    No perturbed gene is on the panel: cell-eval leaves a target gene out only where it is the whole label, we leave
    out both genes of a double.
    """
    from scsave.baselines.simple import Additive
    from scsave.data.preprocess import log1p_normalise
    from scsave.data.splits.split import make_split

    rng = np.random.default_rng(seed)
    singles = [f"G{i}" for i in range(8)]
    doubles = ["+".join(pair) for pair in itertools.combinations(singles, 2)]
    effect = {name: rng.normal(0, 0.1, size=120) for name in singles} | {"control": np.zeros(120)}
    labels = np.repeat(["control", *singles, *doubles], [400, *[40] * (len(singles) + len(doubles))])
    log_rate = np.stack([np.sum([effect[gene] for gene in name.split("+")], axis=0) for name in labels])
    counts = sp.csr_matrix(rng.poisson(np.exp(log_rate + rng.normal(0, 1, size=120))).astype(np.float32))
    library = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    obs = pd.DataFrame({"perturbation": pd.Categorical(labels), keys.LIBRARY: library})
    obs.index = obs.index.astype(str)
    var = pd.DataFrame(index=[f"gene{i}" for i in range(120)])
    data = AnnData(log1p_normalise(counts, library), obs=obs, var=var, layers={keys.COUNTS: counts})
    at = {name: np.flatnonzero(labels == name) for name in np.unique(labels)}
    train_control, start, truth = np.split(at["control"], [200, 300])
    test = np.concatenate([at[name] for name in doubles])
    train = np.concatenate([train_control, *(at[name] for name in singles)])
    split = make_split({"train": train, "test": np.concatenate([test, start, truth])}, data.obs_names, "doubles")
    roles = {"perturbation": "perturbation", "control": "control", "kind": "genes"}
    method = Additive()
    method.fit(data, split, keys.Columns(name="simulated", conditions=["perturbation"], **roles), seed)
    predicted = [method.respond(data[start], name, seed) for name in doubles]
    cells = ad.concat([data[start], *predicted], index_unique="-")
    return cells, data[np.concatenate([truth, test])].copy(), "perturbation", "control"


def non_negative(cells: AnnData, key: str, genes: pd.Index) -> AnnData:
    """Label and dense float64 expression cut off at zero: cell-eval refuses values below it."""
    x = cells[:, genes].X
    x = x.toarray() if sp.issparse(x) else np.asarray(x)
    obs = pd.DataFrame({key: cells.obs[key].astype(str).to_numpy()}, index=[f"cell{i}" for i in range(cells.n_obs)])
    return AnnData(np.maximum(x.astype(np.float64), 0), obs=obs, var=pd.DataFrame(index=genes))


def ours(predicted: AnnData, real: AnnData, key: str, control: str) -> pd.DataFrame:
    """Our scores, perturbation x metric."""
    from scsave.metrics.genetic import GeneticScorer

    def sparse(cells: AnnData) -> AnnData:
        return AnnData(sp.csr_matrix(cells.X), obs=cells.obs, var=cells.var)

    predicted, real = sparse(predicted), sparse(real)
    start, truth = predicted[predicted.obs[key] == control], real[real.obs[key] == control]
    scorer = GeneticScorer(real, start, truth, real[real.obs[key] != control], key, {}, control, n_components=5)
    return scorer.score(predicted).per_perturbation


def theirs(predicted: AnnData, real: AnnData, key: str, control: str, folder: Path) -> pd.DataFrame:
    """cell-eval's scores from the two files that it takes, perturbation x metric."""
    cell_eval = require(Needs("cell_eval", "cell-eval"), "cell_eval_check")
    paths = [folder / "predicted.h5ad", folder / "real.h5ad"]
    predicted.write_h5ad(paths[0])
    real.write_h5ad(paths[1])
    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=str(paths[0]),
        adata_real=str(paths[1]),
        control_pert=control,
        pert_col=key,
        outdir=str(folder / "cell_eval"),
        num_threads=1,
        skip_de=True,
    )
    results, _ = evaluator.compute(
        profile="anndata",
        skip_metrics=["clustering_agreement", "pearson_edistance"],
        write_csv=False,
        break_on_error=True,
    )
    return pd.DataFrame(results.to_dict(as_series=False)).set_index("perturbation")


def compare(predicted: AnnData, real: AnnData, key: str, control: str) -> pd.DataFrame:
    """One row a shared metric: mean of ours, mean of theirs, largest difference over the perturbations."""
    if not predicted.var_names.isin(real.var_names).all() or predicted.n_vars != real.n_vars:
        raise UserError(f"the files have other genes: {predicted.n_vars} predicted, {real.n_vars} real; give the same")
    for name, cells in (("--predicted", predicted), ("--real", real)):
        if key not in cells.obs:
            raise UserError(f"{name}: no column '{key}' in obs; columns: {', '.join(map(str, cells.obs.columns))}")
        if control not in set(cells.obs[key].astype(str)):
            raise UserError(f"{name}: no cell has {key}={control}, the control cells must be in the file")
    predicted, real = (non_negative(cells, key, real.var_names) for cells in (predicted, real))
    with tempfile.TemporaryDirectory() as folder:
        other = theirs(predicted, real, key, control, Path(folder))
    mine = ours(predicted, real, key, control).loc[other.index]
    rows = {
        name: {
            "ours": mine[SHARED[name]].mean(),
            "cell-eval": other[name].mean(),
            "largest difference": np.abs(mine[SHARED[name]] - other[name]).max(),
        }
        for name in SHARED
    }
    return pd.DataFrame(rows).T


def compare_run(folder: Path) -> pd.DataFrame:
    """One row a held-out type and metric: the run's value, cell-eval's, their difference (absolute)."""
    if not (folder / "results.json").is_file():
        raise UserError(f"--run {folder}: no results.json there; give the folder that train.py wrote")
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if record["registry"] != "response":
        raise UserError(
            f"--run {folder}: not a run of task=perturbation on levels; give --predicted and --real instead"
        )
    scores, rows = record["metrics"][record["method"]], []
    for name, control, halves, predicted, real, (key, target) in held_out(folder, record["info"]["target"]):
        # each half of the control cells against the other, both ways; then all control cells on both sides
        pairs = [(halves[0], predicted[0], halves[1]), (halves[1], predicted[1], halves[0])]
        both = [scored_by_cell_eval(start, cells, other, real, key, target) for start, cells, other in pairs]
        one = scored_by_cell_eval(control, ad.concat(predicted), control, real, key, target)
        found = {row: np.mean([side[row] for side in both]) for row in ROWS[:2]}
        found |= {"pcc_delta_one_control": one["pcc_delta"], "r2": one["r2"]}
        for row in ROWS:
            ours, theirs = scores[name][row], found[row]
            rows.append((name, row, ours, theirs, abs(ours - theirs)))
    return pd.DataFrame(rows, columns=["type", "metric", "ours", "cell-eval", "largest difference"]).set_index("type")


def held_out(
    folder: Path, target: str
) -> Iterator[tuple[str, AnnData, tuple, list[AnnData], AnnData, tuple[str, str]]]:
    """Each held-out type of a run: control cells, their halves, what was predicted from each half, real cells."""
    from omegaconf import OmegaConf

    from scsave.components import build
    from scsave.data.gene_selection import select_genes
    from scsave.metrics.response import split_control
    from scsave.runs.config import validated
    from scsave.runs.folds import slug
    from scsave.tasks.held_cells import enough, held_cells, held_types

    config = validated(OmegaConf.load(folder / "config.yaml"))
    source, strategy = build(config.data, "data"), build(config.split, "split")
    cells = source.load(Path(config.paths.cache))
    folds = strategy.folds(cells, source) if hasattr(strategy, "folds") else {"": strategy}
    for fold in folds.values():
        split = fold(cells, source, config.seed)
        data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
        for name in held_types(data, split, source, target):
            control, real, _ = held_cells(data, split, source, name, target)
            halves = split_control(control, config.seed)
            predicted = ad.read_h5ad(folder / "predictions" / f"{slug(name)}.h5ad")
            first = enough(halves, config.task["min_cells"])[0].n_obs
            parts = [predicted[:first].copy(), predicted[first:].copy()]
            yield name, control, halves, parts, real, (source.perturbation_key, target)


def scored_by_cell_eval(
    start: AnnData, predicted: AnnData, other: AnnData, real: AnnData, key: str, target: str
) -> dict[str, float]:
    """`pcc_delta`, `r2_delta` and `r2` from cell-eval's scores of two files, each with its own control cells.

    R2 is `1 - MSE / variance of the truth`: cell-eval has the mean squared error, the variance is taken from the cells.
    """
    files = [ad.concat(pair, index_unique="-") for pair in ((start, predicted), (other, real))]
    control = str(start.obs[key].iloc[0])
    with tempfile.TemporaryDirectory() as folder:
        found = theirs(*(non_negative(cells, key, real.var_names) for cells in files), key, control, Path(folder))
    truth, before = (np.asarray(cells.X.astype(np.float64).mean(axis=0)).ravel() for cells in (real, other))
    row = found.loc[target]
    return {
        "pcc_delta": row["pearson_delta"],
        "r2_delta": 1 - row["mse_delta"] / np.var(truth - before),
        "r2": 1 - row["mse"] / np.var(truth),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--predicted", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--key", default="perturbation")
    parser.add_argument("--control", default="control")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if (options.predicted is None) != (options.real is None):
            raise UserError("give both --predicted and --real, or neither")
        if options.run is not None:
            table = compare_run(options.run)
        elif options.predicted is None:
            table = compare(*simulated(options.seed))
        else:
            files = [ad.read_h5ad(path) for path in (options.predicted, options.real)]
            table = compare(*files, options.key, options.control)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(table.to_string(float_format=lambda value: f"{value:.9g}"))
    return int(not (table["largest difference"] <= TOLERANCE).all())


if __name__ == "__main__":
    sys.exit(main())
