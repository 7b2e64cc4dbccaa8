"""Our scores of perturbations equal those of cell-eval (Arc Institute), which shares no code with ours.

Skipped where cell-eval is not installed (`make setup EXTRAS=dev,baselines`).
"""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave.metrics.genetic import GeneticScorer
from scsave.metrics.response import ResponseScorer
from tests.metrics.cells import prepared

pytestmark = pytest.mark.slow
TOLERANCE = 1e-6
SINGLES = [
    f"KO{i}" for i in range(6)
]  # none is on the panel: cell-eval leaves a target out only where it is the whole label
DOUBLES = ["+".join(pair) for pair in itertools.combinations(SINGLES, 2)]
GENES = 120


def drawn(labels: list[str], seed: int, cell_type: str = "A") -> AnnData:
    """Cells whose perturbed genes add small effects to the log rates, the same ones for every seed."""
    effect = np.random.default_rng(0).normal(0, 0.1, size=(len(SINGLES), GENES))
    base = np.random.default_rng(1).normal(0, 1, size=GENES)
    log_rate = [base + sum(effect[SINGLES.index(g)] for g in label.split("+") if g in SINGLES) for label in labels]
    counts = np.random.default_rng(seed).poisson(np.exp(np.array(log_rate)))
    return prepared(counts, {"perturbation": labels, "cell_type": cell_type})


def written(cells: AnnData, labels: np.ndarray) -> AnnData:
    """Label and dense float64 expression, as cell-eval takes them: nothing below zero."""
    obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(cells.n_obs)])
    return AnnData(
        np.maximum(cells.X.toarray().astype(np.float64), 0), obs=obs, var=pd.DataFrame(index=cells.var_names)
    )


def theirs(predicted: list[AnnData], real: list[AnnData], folder) -> pd.DataFrame:
    """cell-eval's table, perturbation x metric: control cells and perturbed ones of the prediction and of the truth."""
    cell_eval = pytest.importorskip("cell_eval")
    files = []
    for name, parts in (("predicted", predicted), ("real", real)):
        labels = np.concatenate([part.obs["perturbation"].astype(str) for part in parts])
        files.append(folder / f"{name}.h5ad")
        written(ad.concat(parts, index_unique="-"), labels).write_h5ad(files[-1])
    evaluator = cell_eval.MetricsEvaluator(
        adata_pred=str(files[0]),
        adata_real=str(files[1]),
        control_pert="control",
        pert_col="perturbation",
        outdir=str(folder / "cell_eval"),
        num_threads=1,
        skip_de=True,
    )
    skipped = ["clustering_agreement", "pearson_edistance"]
    found, _ = evaluator.compute(profile="anndata", skip_metrics=skipped, write_csv=False, break_on_error=True)
    return pd.DataFrame(found.to_dict(as_series=False)).set_index("perturbation")


def test_genetic_scores_equal_cell_eval_s(tmp_path):
    """Held-out doubles, predicted by adding the changes of the singles to control cells."""
    train = drawn(["control"] * 150 + SINGLES * 30, seed=2)
    start, truth, real = (
        drawn(labels, seed) for seed, labels in ((3, ["control"] * 80), (4, ["control"] * 90), (5, DOUBLES * 30))
    )
    means = pd.DataFrame(train.X.toarray()).groupby(train.obs["perturbation"].to_numpy()).mean()
    change = means - means.loc["control"]
    predicted = []
    for name in DOUBLES:
        cells = start.copy()
        cells.X = sp.csr_matrix(np.maximum(start.X.toarray() + change.loc[name.split("+")].sum().to_numpy(), 0))
        cells.obs["perturbation"] = name
        predicted.append(cells)
    scorer = GeneticScorer(train, start, truth, real, "perturbation", {}, "control", n_components=5)
    ours = scorer.score(ad.concat(predicted, index_unique="-")).per_perturbation
    found = theirs([start, *predicted], [truth, real], tmp_path).loc[ours.index]
    for name, their_name in {"pcc_delta": "pearson_delta", "discrimination": "discrimination_score_l1"}.items():
        assert np.abs(ours[name] - found[their_name]).max() < TOLERANCE
        assert 0 < ours[name].mean() < 1


def test_response_scores_equal_cell_eval_s(tmp_path):
    """Treated cells of one type from either half of its control cells; R2 is 1 - their mean squared error / variance."""
    control, real = drawn(["control"] * 121, seed=6), drawn(["KO0"] * 70, seed=7)
    seen = ad.concat([control, drawn(["control"] * 60 + ["KO0"] * 60, seed=8, cell_type="B")], index_unique="-")
    scorer = ResponseScorer(seen, control, real, n_components=5)
    halves = scorer.halves
    predicted = [drawn(["KO0"] * part.n_obs, seed=9 + n) for n, part in enumerate(halves)]
    ours = scorer.score(*predicted)

    def scored(start: AnnData, cells: list[AnnData], other: AnnData, folder) -> dict[str, float]:
        folder.mkdir()
        row = theirs([start, *cells], [other, real], folder).loc["KO0"]
        mean, before = (part.X.toarray().astype(np.float64).mean(axis=0) for part in (real, other))
        r2_delta, r2 = 1 - row["mse_delta"] / np.var(mean - before), 1 - row["mse"] / np.var(mean)
        return {"pcc_delta": row["pearson_delta"], "r2_delta": r2_delta, "r2": r2}

    # each half of the control cells against the other, both ways; then all control cells on both sides
    sides = [scored(halves[n], [predicted[n]], halves[1 - n], tmp_path / str(n)) for n in (0, 1)]
    one = scored(control, predicted, control, tmp_path / "one")
    wanted = {name: np.mean([side[name] for side in sides]) for name in ("pcc_delta", "r2_delta")}
    wanted |= {"pcc_delta_one_control": one["pcc_delta"], "r2": one["r2"]}
    assert {name: ours[name] for name in wanted} == pytest.approx(wanted, abs=TOLERANCE)
    assert 0.2 < wanted["pcc_delta"] < 1
