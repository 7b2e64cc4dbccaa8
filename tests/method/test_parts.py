"""Parts of one model: trained later without touching the others; moved cells; embedded cells of an unknown batch."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave import keys
from scsave.compose import compose, plain
from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.method.between import move
from scsave.method.fit import extend, fit
from scsave.method.integrate import integrate
from scsave.training.options import FitOptions

COLUMNS = Columns("test", ["condition"], "type", "batch", "condition", "ctrl")
TINY = [
    "data=simulated", "blocking=random", "blocking.n_blocks=3", "backbone.width=8", "backbone.depth=1", "backbone.heads=2",
    "backbone.latent_width=2", "backbone.velocity_width=8", "backbone.velocity_depth=1", "training.autoencoder_steps=6",
    "training.flow_steps=6", "training.head_steps=6", "training.batch_size=32", "training.flow_batch_size=32",
    "training.cells_steps=2", "training.trust_cells=10",
]  # fmt: skip


def cells(n=240, genes=12, batches=("1", "2")):
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(3.0, (n, genes)).astype(np.float32))
    library = counts.sum(1).A1 + 5
    obs = pd.DataFrame({
        "type": np.array(["B", "T", "NK"])[np.arange(n) % 3],
        "condition": np.array(["ctrl", "stim"])[np.arange(n) // 3 % 2],
        "batch": np.array(batches)[np.arange(n) // 6 % 2],
        keys.LIBRARY: library,
    }, index=[f"c{i}" for i in range(n)])  # fmt: skip
    x = sp.csr_matrix(np.log1p(counts.toarray() * (1e4 / library)[:, None]).astype(np.float32))
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]), layers={keys.COUNTS: counts})


def made(*parts):
    config = plain(compose(TINY))
    nodes = config["method"]
    data, places = cells(), np.arange(240)
    split = Split(
        {keys.TRAIN: places[:200], keys.VAL: places[200:220], keys.TEST: places[220:]}, np.array(data.obs_names), "test"
    )
    model = fit(nodes, data, split, COLUMNS, 0, FitOptions(parts=frozenset(parts)))
    return model, (nodes, data, split, COLUMNS, 0)


def test_a_part_that_is_trained_later_leaves_the_others_as_they_were():
    model, given = made("autoencoder", "head")
    assert model.info["parts"] == ["autoencoder", "head"]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    extend(model, *given, FitOptions(parts=frozenset({"autoencoder", "cells"})))
    assert model.info["parts"] == ["autoencoder", "cells", "head"]
    assert set(model.info["trust"]) == {"B", "T", "NK"}
    assert 0 <= model.info["leave"] <= 1
    changed = {n for n, value in model.network.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(name.startswith(("velocity.", "flow_")) for name in changed)
    assert model.network.velocity.shifts.abs().sum() > 0

    # without the field the flow from cells is the mean shift, whatever the solver and the type of the cell
    control = given[1][given[1].obs.condition == "ctrl"].copy()
    obs = control.obs[["type", "condition", "batch"]].astype(object).assign(condition="stim")
    moved = move(model, control, obs, 0.0, "stim")
    level = model.conditions.columns[model.conditions.names.index("condition")].levels.index("stim")
    shift = (model.network.velocity.shifts[level] * model.network.flow_std)[:-1]
    torch.testing.assert_close(moved.after.flatten(1), moved.before.flatten(1) + shift, rtol=1e-4, atol=1e-4)
    assert torch.equal(moved.library, torch.tensor(control.obs[keys.LIBRARY].to_numpy(np.float32)))  # kept
    one, other = (move(model, control, told, 1.0, "stim") for told in (obs, obs.assign(type="B")))
    assert torch.equal(one.after, other.after)


def test_cells_of_an_unknown_batch_are_embedded_and_counted():
    model, (_, data, _, _, _) = made("autoencoder", "head")
    known, found = integrate(model, data), integrate(model, cells(batches=("1", "new")))
    np.testing.assert_array_equal(known.obsm[keys.LATENT], found.obsm[keys.LATENT])  # the encoder sees no batch
    assert known.uns[keys.UNS]["cells_of_unknown_batch"] == 0
    assert found.uns[keys.UNS]["cells_of_unknown_batch"] == (found.obs.batch == "new").sum() == 120
    backbone = model.network.backbone
    assert found.obsm[keys.LATENT].shape[1] == backbone.head_size + min(backbone.head_components, len(model.genes) - 1)
    with pytest.raises(UserError, match="reference batch 9: not a level of batch; the model knows: 1, 2"):
        integrate(model, data, "9")
