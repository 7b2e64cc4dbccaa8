"""`SAVE` in Python: fitted on an AnnData as its owner has it, with the command's weights; what it shows of itself."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave import SAVE, keys
from scsave.data.simulate.cells import Simulated
from scsave.errors import UserError
from scsave.runs.run import run
from scsave.tasks.correction import BatchCorrection
from scsave.tasks.generation import Generation

from ..conftest import NETWORK

OVERRIDES = ["blocking=random", *NETWORK]
ROLES = {"batch_key": "batch", "cell_type_key": "cell_type"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> AnnData:
    """Counts in X and nothing else, 240 cells of three types and two batches, half of them treated."""
    source = Simulated(
        name="simulated",
        conditions=["cell_type", "batch", "treatment"],
        n_cells=240,
        n_genes=48,
        n_types=3,
        n_batches=2,
    )
    data = source.load(tmp_path_factory.mktemp("cache"))
    return AnnData(data.layers[keys.COUNTS].copy(), obs=data.obs.drop(columns=keys.LIBRARY), var=data.var[[]])


@pytest.fixture(scope="module")
def model(cells) -> SAVE:
    torch.set_num_threads(1)
    return SAVE.fit(cells, ["cell_type"], overrides=OVERRIDES, **ROLES)


@pytest.fixture(scope="module")
def treated(cells) -> SAVE:
    torch.set_num_threads(1)
    roles = ROLES | {"perturbation_key": "treatment", "control": "control", "task": "perturbation"}
    return SAVE.fit(cells, ["treatment", "cell_type"], overrides=OVERRIDES, **roles)


class Fitted(Exception):
    """Ends a run before it scores."""


@pytest.mark.parametrize("task", [Generation, BatchCorrection])
def test_fitting_in_python_gives_the_weights_of_the_command(cells, composed, tmp_path, monkeypatch, task):
    def ended(*_):
        raise Fitted

    monkeypatch.setattr(task, "run", ended)
    task = task.metrics
    cells.write_h5ad(tmp_path / "cells.h5ad")
    columns = ["data.conditions=[cell_type]", "data.batch_key=batch", "data.cell_type_key=cell_type", "seed=3"]
    cfg = composed(f"task={task}", "data=h5ad", f"data.path={tmp_path}/cells.h5ad", *columns, *OVERRIDES)
    with pytest.raises(Fitted):
        run(cfg, tmp_path / "run")
    by_command = SAVE.load(tmp_path / "run").model
    in_python = SAVE.fit(cells, ["cell_type"], task=task, seed=3, overrides=OVERRIDES, **ROLES).model
    assert in_python.info["parts"] == by_command.info["parts"]
    assert in_python.genes == by_command.genes
    state, other = in_python.network.state_dict(), by_command.network.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_fitting_takes_the_settings_of_the_command(cells):
    model = SAVE.fit(cells, ["cell_type"], overrides=[*OVERRIDES, "data.n_top_genes=20"], seed=1)
    assert len(model.genes) == 20
    assert model.model.cost["steps"] == 8  # trainer.limit_steps=4 of NETWORK, autoencoder and flow
    with pytest.raises(UserError, match="no column 'nope' in obs; columns present: cell_type, batch, treatment"):
        SAVE.fit(cells, ["nope"])
    with pytest.raises(UserError, match="one model has one split, this one has 3 folds: name one of type_A"):
        SAVE.fit(
            cells, ["treatment"], cell_type_key="cell_type", perturbation_key="treatment", control="control",
            task="perturbation", overrides=["split=perturbation"],
        )  # fmt: skip


def test_cells_as_their_owner_has_them_are_one_and_the_same_to_every_verb(cells, treated):
    counts, n = cells.X, cells.n_obs
    logged = counts.copy()
    logged.data = np.log1p(logged.data / np.repeat(counts.sum(axis=1).A1, np.diff(counts.indptr)) * 1e4)
    layer = AnnData(None, obs=cells.obs, var=cells.var, layers={"umis": counts.copy()})
    raw = AnnData(logged, obs=cells.obs, var=cells.var)
    raw.raw = raw.copy()
    raw.X = np.asarray(raw.X.todense()) - 1  # scaled
    kept = AnnData(None, obs=cells.obs, var=cells.var, layers={keys.COUNTS: counts.copy()})
    kept.obs[keys.LIBRARY] = counts.sum(axis=1).A1
    for given in (layer, raw, kept, AnnData(logged, obs=cells.obs, var=cells.var)):
        assert np.array_equal(treated.encode(given), treated.encode(cells))
        assert np.array_equal(treated.integrate(given).obsm[keys.LATENT], treated.integrate(cells).obsm[keys.LATENT])
        moved, expected = (treated.respond(c[c.obs.treatment == "control"], "stimulated") for c in (given, cells))
        assert (moved.layers[keys.COUNTS] != expected.layers[keys.COUNTS]).nnz == 0
        target = pd.DataFrame({"treatment": ["stimulated"] * n}, index=cells.obs_names)
        a, b = (treated.translate(c, target, draw=False).X for c in (given, cells))
        assert np.array_equal(a.toarray(), b.toarray())


def test_generated_cells_have_names_of_their_own_and_say_what_was_drawn(model, cells, tmp_path):
    one, other = model.generate(30, {"cell_type": "type_A"}), model.generate(20)
    assert ad.concat([cells, one, other, model.generate(20, seed=1)]).obs_names.is_unique
    assert one.obs_names.str.fullmatch(r"generated_[0-9a-f]{6}_\d+").all()
    assert list(model.generate(20).obs_names) == list(other.obs_names)  # the same cells again
    assert other.obs["cell_type"].isna().all()  # not told, and not called [MASK]
    assert set(other.obs["batch"]) == {"batch_1", "batch_2"}
    about = other.uns[keys.UNS]
    assert (about["drawn"], about["not_told"]) == (["batch"], ["cell_type"])
    assert "no new evidence" in about["evidence"]
    assert one.uns[keys.UNS]["drawn"] == ["batch"]
    assert "not_told" not in one.uns[keys.UNS]
    other.write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").obs["cell_type"].isna().all()
    asked = pd.DataFrame({"cell_type": ["type_A", None], "batch": ["batch_2", None]}, index=["x", "y"])
    some = model.generate(asked)
    assert list(some.obs["cell_type"].isna()) == [False, True]
    assert some.obs["batch"].iloc[0] == "batch_2"


def test_a_part_that_was_left_out_is_trained_when_it_is_asked_for(cells, tmp_path):
    model = SAVE.fit(cells, ["cell_type"], overrides=OVERRIDES, **ROLES)
    before = model.generate(10).X.toarray()
    assert model.model.info["parts"] == ["autoencoder", "noise"]
    assert model.integrate(cells).obsm[keys.LATENT].shape[0] == cells.n_obs
    assert model.model.info["parts"] == ["autoencoder", "head", "noise"]
    assert np.array_equal(model.generate(10).X.toarray(), before)
    model.save(tmp_path)
    loaded = SAVE.load(tmp_path)
    assert np.array_equal(loaded.generate(10).X.toarray(), before)
    with pytest.raises(UserError, match="no perturbation column"):
        loaded.respond(cells, "stimulated")


def test_what_a_model_shows_of_itself(model, treated):
    text = repr(treated)
    for line in (
        "data: adata, 227 training cells, 48 genes", "condition treatment: 2 levels: control, stimulated",
        "technical columns: batch", "perturbation: treatment, its control is control",
    ):  # fmt: skip
        assert line in text, text
    assert "trained: autoencoder, flow from noise" in repr(model)
    shown = dir(model)
    assert {"fit", "generate", "integrate", "respond", "predict", "encode", "conditions"} <= set(shown)
    assert not [name for name in shown if name.startswith("_") or name in ("model", "training", "crew")]
    assert all(getattr(SAVE, name).__doc__ for name in shown)


def test_other_sampling_leaves_the_model_as_it_was(model):
    before = model.generate(10).X.toarray()
    other = model.sampling(guidance=3.0)
    assert other.model.sampler.guidance == 3.0
    assert model.model.sampler.guidance == 1.0
    assert np.array_equal(model.generate(10).X.toarray(), before)
    assert other.model.network is model.model.network


def test_what_to_expect_of_a_response(treated, model, cells):
    found = treated.expected_accuracy(cells[cells.obs.treatment == "control"], "stimulated")
    assert found["held_out"] == 3
    assert found["low"] < found["expected_pcc"] < found["high"]
    assert model.expected_accuracy(cells, "stimulated") is None


def test_sparse_and_dense_cells_are_the_same(cells, model):
    dense = cells.copy()
    dense.X = sp.csc_matrix(cells.X).toarray()
    assert np.array_equal(model.encode(dense), model.encode(cells))


def test_a_combination_that_training_never_showed_is_generated_with_a_warning(cells, caplog):
    torch.set_num_threads(1)
    obs = cells.obs.astype(str)
    (drug,) = set(obs["treatment"]) - {"control"}
    known = cells[~((obs["cell_type"] == "type_A") & (obs["treatment"] != "control"))]
    model = SAVE.fit(known, ["cell_type", "treatment"], overrides=OVERRIDES, **ROLES)
    asked = pd.DataFrame({"cell_type": ["type_A", "type_B"] * 2, "treatment": ["control", drug, drug, "[MASK]"]})
    with caplog.at_level("WARNING", logger="scsave"):
        model.generate(asked.drop(2))
        assert not caplog.records
        made = model.generate(asked)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f"1 of the combinations asked for were not in training (cell_type=type_A, treatment={drug})")
    assert "mode=predict" not in said  # this model knows no control cells
    others = len(set(obs["cell_type"])) - 1
    said_of = [f"cell_type=type_A, treatment={drug}: from treatment=control, moved as in {others} others"]
    assert made.uns["scsave"]["never_seen"] == said_of
    assert made.obs["treatment"].astype(object).tolist()[:3] == ["control", drug, drug]
    assert "never_seen" not in model.sampling(unseen="told").generate(asked).uns["scsave"]
    again = model.generate(asked.drop(2)), model.sampling(unseen="told").generate(asked.drop(2))
    assert (again[0].layers["counts"] != again[1].layers["counts"]).nnz == 0
