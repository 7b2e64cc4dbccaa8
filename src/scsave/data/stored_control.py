"""Control cells as plain types and tensors, so that a checkpoint predicts perturbations without the training data."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import prepared, select_cells
from scsave.stats.resample import subsample

MOST = 500


def drawn(data: AnnData, is_control: np.ndarray, seed: int, most: int = MOST) -> AnnData:
    """At most `most` of the control cells (N,) bool of `data`, drawn by the seed."""
    rows = np.flatnonzero(is_control)
    return select_cells(data, rows[subsample(len(rows), most, seed)])


def packed(cells: AnnData | None) -> dict[str, Any] | None:
    """Counts, library sizes and obs as plain types and tensors."""
    import torch

    if cells is None:
        return None
    counts = sp.csr_matrix(cells.layers[keys.COUNTS])
    columns = {name: cells.obs[name] for name in cells.obs if name != keys.LIBRARY}
    numeric = {name for name, column in columns.items() if pd.api.types.is_float_dtype(column)}
    return {
        "shape": list(counts.shape),
        **{name: torch.from_numpy(getattr(counts, name).copy()) for name in ("data", "indices", "indptr")},
        "library": torch.from_numpy(cells.obs[keys.LIBRARY].to_numpy(np.float64).copy()),
        "cells": [str(name) for name in cells.obs_names],
        "obs": {k: [float(v) if k in numeric else str(v) for v in column] for k, column in columns.items()},
    }


def unpacked(stored: dict[str, Any] | None, genes: list[str]) -> AnnData | None:
    """The prepared cells (n, G) that `packed` was given, `genes` in the model's order."""
    if stored is None:
        return None
    arrays = [stored[name].numpy() for name in ("data", "indices", "indptr")]
    counts = sp.csr_matrix(tuple(arrays), shape=tuple(stored["shape"]))
    counts.check_format(full_check=True)  # scipy would read and write wherever a foreign file's indices point
    obs = pd.DataFrame(stored["obs"], index=pd.Index(stored["cells"], name="cell"))
    for name in obs:
        obs[name] = obs[name] if pd.api.types.is_float_dtype(obs[name]) else obs[name].astype("category")
    obs[keys.LIBRARY] = stored["library"].numpy()
    return prepared(counts, obs, pd.DataFrame(index=pd.Index(genes)), {})
