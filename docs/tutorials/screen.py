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
# # What would a knock-out do that the screen did not make?
# You have a Perturb-seq screen and want to know of genes that were never perturbed. What links a new gene to the others is what
# is known of it: here vectors that come with simulated genes, with your own screen the texts about human genes that ship with
# scsave.

# %%
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scanpy as sc

from scsave import SAVE
from scsave.data.simulate.perturbseq import SimulatedPerturbSeq

warnings.simplefilter("ignore")
sc.set_figure_params(dpi=65, figsize=(5, 3))
SCREEN = os.environ.get("SCSAVE_SCREEN")  # an .h5ad of your own, counts in X; without it, a simulated screen
GENE, CONTROL = os.environ.get("SCSAVE_SCREEN_COLUMNS", "perturbation,control").split(
    ","
)  # its column, and the controls
STEPS = int(os.environ.get("SCSAVE_STEPS", 300))  # caps each stage of the training, so that the page takes a minute
CAPPED = [
    f"trainer.limit_steps={STEPS}",
    f"training.cells_steps={min(STEPS, 100)}",
    "backbone.width=32",
]  # leave it out for results

# %% [markdown]
# ## The screen
# Three genes are taken out with all their cells, so that we can see afterwards how good the prediction was.

# %%
if SCREEN:
    adata, column, control, more = sc.read_h5ad(SCREEN), GENE, CONTROL, []
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
else:
    made = SimulatedPerturbSeq(
        name="screen", conditions=["condition"], perturbation_key="condition", perturbation_kind="genes", control="control",
        n_cells=2400, n_genes=120, n_targets=30, n_doubles=0, effect_sd=1.0, vector_noise=0.2,
    )  # fmt: skip
    adata, column, control, more = made.load(Path(tempfile.mkdtemp())), "condition", "control", ["vectors=data"]
label = adata.obs[column].astype(str)
singles = sorted(name for name in label.unique() if name != control and "+" not in name)
held = singles[:3]
known = adata[~label.isin(held)].copy()
print(f"{len(singles)} perturbed genes; taken out: {', '.join(held)}; {known.n_obs:,} cells to train on")

# %% [markdown]
# ## Fit and predict
# The model keeps some control cells, so `predict` needs names alone; `control=` takes cells of your own.

# %%
model = SAVE.fit(
    known, perturbation_key=column, control=control, perturbation_kind="genes", task="perturbation",
    overrides=[*CAPPED, *more],
)  # fmt: skip
model

# %%
predicted = model.predict(held)
predicted.uns["per_perturbation"]

# %% [markdown]
# Read this table first. `distance` is how far a gene lies from the nearest one that was perturbed, 1 being usual; where a
# `warning` stands, little but what all perturbations share speaks for the prediction.

# %%
table = predicted.uns["per_perturbation"]
top = list(dict.fromkeys(word.split()[0] for text in table["strongest"] for word in text.split(", ")))
sc.pl.matrixplot(predicted, top, groupby=column, cmap="viridis")


# %% [markdown]
# ## Was it right?
# Against the real cells of the three genes, beside the simplest prediction: the mean change of all perturbations. Many published
# models do not beat it on real screens.


# %%
def mean(cells: sc.AnnData) -> np.ndarray:
    return np.asarray(cells[:, predicted.var_names].X.mean(axis=0)).ravel()


base = mean(known[known.obs[column].astype(str) == control])
average = np.mean([mean(known[known.obs[column].astype(str) == name]) - base for name in singles[3:]], axis=0)
rows = {}
for name in held:
    real = mean(adata[label == name]) - base
    guess = mean(predicted[predicted.obs[column].astype(str) == name]) - base
    rows[name] = {"SAVE": np.corrcoef(guess, real)[0, 1], "mean of all": np.corrcoef(average, real)[0, 1]}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# ## What to believe
# - A prediction for a gene with a warning is the average perturbation in other words. Do not rank candidates by it.
# - A correlation over all genes can be high because every perturbation stresses cells alike: the second column is that part.
#   What the model knows of a gene is the difference between the columns, and three genes are too few to average.
# - Here effects follow the vectors by construction. Of a real screen, `python train.py task=perturbation
#   data=perturbseq_h5ad ...` says with floors, ceilings and baselines whether what is known of genes foretells their effects.
