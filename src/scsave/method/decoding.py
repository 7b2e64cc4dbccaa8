"""Between cells and a model's tensors: counts in, drawn or mean cells out, a chunk of cells at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from torch import Tensor

from scsave import __version__, keys
from scsave.data.conditions import Values
from scsave.data.from_anndata import counts_of
from scsave.models.model import SAVEModel
from scsave.training.loader import CellRows

CHUNK = 1024  # cells at a time


@contextmanager
def inference(model: SAVEModel) -> Iterator[None]:
    model.eval()
    with torch.inference_mode():
        yield


def on(values: Values, device: torch.device) -> Values:
    return {name: v.to(device) for name, v in values.items()}


def batches(model: SAVEModel, cells: AnnData, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Counts (B, G) and library (B,) of cells in the model's gene order, on its device.

    Genes are matched by name; one that the cells lack counts as zero. UserError where they share none.
    """
    rows = CellRows(counts_of(cells, list(model.blocks.genes)), cells.obs[keys.LIBRARY].to_numpy())
    for start in range(0, len(rows), CHUNK):
        batch = rows.batch(np.arange(start, min(start + CHUNK, len(rows))))
        yield batch["counts"].to(device), batch["library"].to(device)


def decoded(
    model: SAVEModel,
    z: Tensor,
    library: Tensor,
    values: Values,
    rng: torch.Generator | None,
    obs: pd.DataFrame,
    info: dict[str, Any],
) -> AnnData:
    """Cells of latents (N, L, d) and library sizes (N,); drawn from the likelihood with `rng`, its mean without."""
    counts, log1p = matrices(model, z, library, values, rng)
    what = "generated cells" if rng else "decoded means"
    return as_cells(model, counts, log1p, library.cpu().numpy(), obs, {"what": what} | info)


def matrices(
    model: SAVEModel, z: Tensor, library: Tensor, values: Values, rng: torch.Generator | None
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts and log1p expression, (N, G) each, of latents (N, L, d); drawn with `rng`, the likelihood's mean without."""
    drawn, log1p, genes = [], [], len(model.blocks.genes)
    with inference(model):
        for start in range(0, len(z), CHUNK):
            part = slice(start, start + CHUNK)
            size = library[part]
            out = model.decode(z[part], {name: v[part] for name, v in values.items()})
            cells = model.likelihood(out, size)
            if rng is None:
                mean = cells.mean().flatten()
                place, value = torch.arange(len(mean), device=mean.device), mean
            else:
                place, value = cells.drawn(rng)  # (M,) each
            row = place // genes
            if cells.space == "counts":
                counts, expression = value, torch.log1p(value * (keys.TARGET_SUM / size).index_select(0, row))
            else:
                expression = value * model.likelihood.scale.index_select(0, place % genes)
                counts = expression.expm1() * (size / keys.TARGET_SUM).index_select(0, row)
            drawn.append(_sparse(place, counts if rng is None else counts.round(), (len(size), genes)))
            log1p.append(_sparse(place, expression, (len(size), genes)))
    return sp.vstack(drawn, format="csr"), sp.vstack(log1p, format="csr")


def _sparse(place: Tensor, value: Tensor, shape: tuple[int, int]) -> sp.csr_matrix:
    """`value` (M,) at ascending places of the flattened matrix; zeros are left out."""
    place, starts = place.cpu().numpy(), np.arange(shape[0] + 1) * shape[1]
    found = sp.csr_matrix((value.cpu().numpy(), place % shape[1], np.searchsorted(place, starts)), shape=shape)
    found.eliminate_zeros()
    return found


def as_cells(
    model: SAVEModel,
    counts: sp.csr_matrix,
    log1p: sp.csr_matrix,
    library: np.ndarray,
    obs: pd.DataFrame,
    info: dict[str, Any],
) -> AnnData:
    """AnnData of the model's genes: counts in a layer, log1p in X, `obs` with the library sizes (N,); NaN is not told."""
    obs = obs.copy()
    obs.index = obs.index.astype(str)
    for name, column in obs.items():
        if column.dtype == object:
            obs[name] = column.where(column != keys.MASK).astype("category")
        elif column.dtype == "category" and keys.MASK in column.cat.categories:
            obs[name] = column.cat.remove_categories([keys.MASK])
    obs[keys.LIBRARY] = library.astype(np.float64)
    uns = {"made_by": f"scsave {__version__}"} | info
    return AnnData(
        X=log1p,
        obs=obs,
        var=pd.DataFrame(index=pd.Index(model.blocks.genes)),
        layers={keys.COUNTS: counts},
        uns={keys.UNS: {k: v for k, v in uns.items() if v is not None}},
    )
