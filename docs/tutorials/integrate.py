# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One embedding of several batches
# You have cells of one tissue from several batches, and want neighbours that share a type and not a batch. This page fits SAVE
# with `batch_key`, embeds the cells, and checks that batches came together and types did not.

# %%
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc

from scsave import SAVE
from scsave.data.simulate.cells import Simulated

warnings.simplefilter("ignore")
sc.set_figure_params(dpi=52, figsize=(4, 4))
KANG = os.environ.get("SCSAVE_KANG")  # path of Kang's PBMCs, e.g. kang_pbmc_ifnb.h5ad; without it, simulated cells
STEPS = int(os.environ.get("SCSAVE_STEPS", 300))  # caps each stage of the training, so that the page takes a minute
CAPPED = [f"trainer.limit_steps={STEPS}", "backbone.width=32"]  # leave this out for results that you mean to use

# %% [markdown]
# ## The cells
# Any AnnData with counts in `X` or in a layer will do. The simulated ones have five types in three batches, with a batch
# effect on every gene.

# %%
if KANG:
    adata = sc.read_h5ad(KANG)
    adata = adata[adata.obs["condition"] == "control"].copy()
    batch, label, more = "donor", "cell_type", []
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
else:
    made = Simulated(name="simulated", conditions=["cell_type", "batch"], n_cells=900, n_genes=200, batch_sd=0.6)
    adata = made.load(Path(tempfile.mkdtemp()))  # counts in a layer, log1p in X
    batch, label, more = "batch", "cell_type", ["vectors=data"]  # simulated genes have no texts
adata

# %%
sc.pp.pca(adata, n_comps=20)
sc.pp.neighbors(adata)
sc.tl.umap(adata)
sc.pl.umap(adata, color=[batch, label], wspace=0.6)

# %% [markdown]
# ## Fit and integrate
# Cell types are not used: integration is unsupervised, so that they can judge it.

# %%
model = SAVE.fit(adata, [batch], batch_key=batch, task="batch_correction", overrides=[*CAPPED, *more])
found = model.integrate(adata)
found

# %%
sc.pp.neighbors(found, use_rep="X_save")
sc.tl.umap(found)
sc.pl.umap(found, color=[batch, label], wspace=0.6)

# %% [markdown]
# ## Did it work?
# Of each cell's neighbours, how many share its batch (less is better, down to what chance gives) and how many its type (more
# is better)? Both columns count: throwing everything together mixes batches perfectly.


# %%
def neighbours_that_share(cells: sc.AnnData, column: str) -> float:
    graph, codes = cells.obsp["distances"].tocoo(), pd.factorize(cells.obs[column].astype(str))[0]
    return float((codes[graph.row] == codes[graph.col]).mean())


chance = {column: float((adata.obs[column].value_counts(normalize=True) ** 2).sum()) for column in (batch, label)}
table = pd.DataFrame(
    {
        "before": {column: neighbours_that_share(adata, column) for column in (batch, label)},
        "after": {column: neighbours_that_share(found, column) for column in (batch, label)},
        "chance": chance,
    }
).T
table.round(2)

# %% [markdown]
# ## New cells
# The encoder sees no batch, so cells that come later are embedded by the same call, also those of a batch that training did
# not have; how many there are is recorded.

# %%
later = adata[:50].copy()
later.obs[batch] = "a new one"
print(model.integrate(later).uns["scsave"]["cells_of_unknown_batch"], "cells of an unknown batch")
assert np.isfinite(model.integrate(later).obsm["X_save"]).all()

# %% [markdown]
# ## What to believe
# - Use `obsm["X_save"]` for neighbours, clusters and UMAP. Corrected expression (`X` of what `integrate` returns) is smooth: it
#   is good for looking and for scores per cell, and must not go into a test of differential expression. Test on counts, with
#   the batch in the design.
# - If the share of neighbours of one type fell, types were mixed: train longer, or ask whether batch and type are confounded.
#   A type that only one batch has can't be told from a batch effect by any method.
# - `python train.py task=batch_correction ...` scores the same embedding by scIB beside Harmony, Scanorama and scVI.
