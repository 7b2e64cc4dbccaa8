"""Do our scores of genetic perturbation agree with cell-eval's (Arc Institute), which knows nothing of our code?

    python scripts/cell_eval_check.py                                        simulated cells, baseline `additive`
    python scripts/cell_eval_check.py --predicted p.h5ad --real r.h5ad --key perturbation --control control

Both files hold log1p expression in X, the same genes, and control cells: those that the prediction starts from in
--predicted, those that the truth is measured from in --real. Needs the extra `baselines`. Exit code 1 where a shared
metric differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.baselines.packages import Needs, require
from scsave.errors import UserError

SHARED = {"pearson_delta": "pcc_delta", "discrimination_score_l1": "discrimination"}  # theirs -> ours
TOLERANCE = 1e-6


def simulated(seed: int) -> tuple[AnnData, AnnData, str, str]:
    """Predicted and real cells of held-out doubles with small effects, predictions of `additive`.

    No perturbed gene is on the panel: cell-eval leaves a target gene out only where it is the whole label, we leave
    out both genes of a double.
    """
    from scsave.baselines.genetic import Additive
    from scsave.data.preprocess import log1p_normalise
    from scsave.data.source import DataSource
    from scsave.data.split import make_split

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
    source = DataSource(
        name="simulated",
        conditions=["perturbation"],
        perturbation_key="perturbation",
        perturbation_kind="genes",
        control="control",
    )
    method = Additive()
    method.fit(data, split, source, seed)
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predicted", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--key", default="perturbation")
    parser.add_argument("--control", default="control")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if (options.predicted is None) != (options.real is None):
            raise UserError("give both --predicted and --real, or neither")
        if options.predicted is None:
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
