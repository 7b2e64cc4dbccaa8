"""Tiny prepared cells, sources and splits for the tests of baselines."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import log1p_normalise
from scsave.data.splits.split import Split, make_split
from scsave.keys import Columns


def prepared(rates: np.ndarray, obs: pd.DataFrame, seed: int = 0) -> AnnData:
    """Poisson cells with the given rates (N, G)."""
    counts = sp.csr_matrix(np.random.default_rng(seed).poisson(rates).astype(np.float32))
    obs = obs.copy()
    obs.index = [f"cell{i}" for i in range(len(obs))]
    obs[keys.LIBRARY] = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0).astype(float)
    var = pd.DataFrame(index=[f"gene{i}" for i in range(counts.shape[1])])
    x = log1p_normalise(counts, obs[keys.LIBRARY].to_numpy())
    return AnnData(X=x, obs=obs, var=var, layers={keys.COUNTS: counts})


def split_of(data: AnnData, held: np.ndarray) -> Split:
    return make_split({"train": np.flatnonzero(~held), "test": np.flatnonzero(held)}, data.obs_names, "held")


def all_training(data: AnnData) -> Split:
    return make_split({"train": np.arange(data.n_obs)}, data.obs_names, "all", allow_no_test=True)


def mean(data: AnnData) -> np.ndarray:
    return np.asarray(data.X.toarray(), dtype=np.float64).mean(axis=0)


def response_cells(seed: int = 0, genes: int = 40, per_group: int = 60) -> tuple[AnnData, Columns, Split]:
    """Four types, two levels; treatment multiplies the first ten genes; the treated cells of `type3` are held out."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(2.0, 2.0, size=(4, genes))
    rows, obs = [], []
    for kind in range(4):
        for level in ("control", "treated"):
            rate = base[kind].copy()
            rate[:10] *= 4.0 if level == "treated" else 1.0
            rows.append(np.tile(rate, (per_group, 1)))
            obs.append(pd.DataFrame({"cell_type": [f"type{kind}"] * per_group, "condition": [level] * per_group}))
    obs = pd.concat(obs, ignore_index=True).astype("category")
    data = prepared(np.vstack(rows), obs, seed)
    source = Columns(
        name="tiny",
        conditions=["cell_type", "condition"],
        cell_type="cell_type",
        perturbation="condition",
        control="control",
    )
    held = ((obs["cell_type"] == "type3") & (obs["condition"] == "treated")).to_numpy()
    return data, source, split_of(data, held)


def genetic_cells(
    perturbations: list[str], held: list[str], seed: int = 0, genes: int = 30, per_group: int = 25
) -> tuple[AnnData, Columns, Split]:
    """Random expression under control and each perturbation; the perturbations `held` are the test."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["control", *perturbations], per_group)
    rates = np.repeat(rng.gamma(2.0, 1.0, size=(len(perturbations) + 1, genes)), per_group, axis=0)
    data = prepared(rates, pd.DataFrame({"perturbation": pd.Categorical(labels)}), seed)
    source = Columns(
        name="tiny",
        conditions=["perturbation"],
        perturbation="perturbation",
        kind="genes",
        control="control",
    )
    return data, source, split_of(data, np.isin(labels, held))
