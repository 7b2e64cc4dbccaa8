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
# # What would these cells look like treated?
# You have treated and untreated cells of most types, and of one type untreated cells only. This page predicts that type's
# treated cells from your own control cells, and says beforehand how far to trust the prediction.

# %%
import os
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from scsave import SAVE
from scsave.data.simulate.cells import Simulated

warnings.simplefilter("ignore")
sc.set_figure_params(dpi=65, figsize=(4, 4))
KANG = os.environ.get("SCSAVE_KANG")  # path of Kang's PBMCs, e.g. kang_pbmc_ifnb.h5ad; without it, simulated cells
STEPS = int(os.environ.get("SCSAVE_STEPS", 300))  # caps each stage of the training, so that the page takes a minute
CAPPED = [
    f"trainer.limit_steps={STEPS}",
    f"training.cells_steps={min(STEPS, 100)}",
    "backbone.width=32",
]  # leave it out for results

# %% [markdown]
# ## The cells
# The treated cells of one type are taken out before anything is trained, and kept to see how good the prediction was. With
# your own file there is nothing to take out.

# %%
if KANG:
    adata = sc.read_h5ad(KANG)
    treatment, control, target, label, held, more = "condition", "control", "stimulated", "cell_type", "NK", []
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
else:
    columns = ["treatment", "cell_type", "batch"]
    made = Simulated(name="simulated", conditions=columns, n_cells=1200, n_genes=120, n_types=6, type_specific=0.1)
    adata = made.load(Path(tempfile.mkdtemp()))
    treatment, control, target, label, held = "treatment", "control", "stimulated", "cell_type", "type_F"
    more = ["vectors=data"]  # simulated genes have no texts
is_held = (adata.obs[label] == held) & (adata.obs[treatment] == target)
real, known = adata[is_held].copy(), adata[~is_held].copy()
pd.crosstab(known.obs[label], known.obs[treatment])

# %% [markdown]
# ## Fit, and ask how far to trust it
# While it trains, SAVE holds each of the other types out in turn. Their scores say what to expect of a type that was never seen
# treated: a correlation of predicted and real change of the genes' means (change-PCC), with an interval that should cover four
# of five such types.

# %%
model = SAVE.fit(
    known, [treatment, label], cell_type_key=label, perturbation_key=treatment, control=control,
    task="perturbation", overrides=[*CAPPED, *more],
)  # fmt: skip
start = known[(known.obs[label] == held) & (known.obs[treatment] == control)].copy()
trust = model.expected_accuracy(start, target)
print(
    f"expected change-PCC {trust['expected_pcc']:.2f}, 80% of such types from {trust['low']:.2f} to {trust['high']:.2f}"
)

# %% [markdown]
# ## Predict
# One predicted cell for each control cell, in their order; `obs["control_cell"]` names it.

# %%
predicted = model.respond(start, target)
predicted.obs[[label, treatment, "control_cell"]].head(3)

# %%
shared = predicted.var_names
parts = {"control": start[:, shared], "predicted": predicted, "real": real[:, shared]}
both = ad.concat(parts, label="cells", index_unique="-")
sc.pp.pca(both, n_comps=20)
sc.pp.neighbors(both)
sc.tl.umap(both)
sc.pl.umap(both, color="cells", size=40)


# %% [markdown]
# ## Was it right?
# The real treated cells, which nothing has seen, against the prediction and against the simplest one: the mean change of the
# other types, added to this type's control cells. A network that does not beat it has learned nothing of this type.


# %%
def mean(cells: ad.AnnData) -> np.ndarray:
    return np.asarray(cells[:, shared].X.mean(axis=0)).ravel()


others = [name for name in known.obs[label].unique() if name != held]
shifts = []
for name in others:
    of_type = known[known.obs[label] == name]
    shifts.append(mean(of_type[of_type.obs[treatment] == target]) - mean(of_type[of_type.obs[treatment] == control]))
change = {
    "real": mean(real) - mean(start),
    "SAVE": mean(predicted) - mean(start),
    "mean shift": np.mean(shifts, axis=0),
}
change = pd.DataFrame(change, index=shared)
change.corr().loc[["SAVE", "mean shift"], ["real"]].rename(columns={"real": "change-PCC"}).round(3)

# %% [markdown]
# The genes that are predicted to change most:

# %%
top = change["SAVE"].abs().sort_values(ascending=False).index[:12]
sc.pl.dotplot(both, list(top), groupby="cells")

# %% [markdown]
# ## What to believe
# - Believe the expected accuracy before the picture. Where it is low or its interval is wide, show the prediction to nobody.
# - Means and rankings of genes are what is predicted. Predicted cells are your control cells moved, so their spread is that of
#   the controls, and a test that counts them as new cells is pseudo-replication.
# - If `mean shift` is as good, say so: the response is then shared by the types, which is a finding too.
# - `python train.py task=perturbation ...` holds out every type in turn and prints the table with ceilings and baselines.
