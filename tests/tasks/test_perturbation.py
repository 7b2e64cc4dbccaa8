"""task=perturbation from config to files: leakage, recovery of a planted effect, resume, and its mistakes."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scsave import SAVE, keys
from scsave.data.simulate.cells import Simulated
from scsave.data.splits.split import make_split
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.method.method import SaveMethod
from scsave.method.respond import ROUTES
from scsave.runs.run import run
from scsave.tasks.base import held_pairs

from ..conftest import results, scores

TASK = ["task=perturbation", "task.min_cells=60"]
ROUTED = [*TASK, "task.routes=[generate, translate]"]
CLOSED = [*TASK, "method=type_process"]
OTHERS = {"no_change", "mean_shift", "similar_shift", "gene_slope", "gene_slope_carry", "matching_mean", "ceiling"} | {
    "type_process"
}


def test_all_routes_are_scored_beside_baselines_and_the_run_leaves_its_files(tiny, tmp_path):
    run(tiny(*ROUTED, "task.hold_out=type_B", "figures=true"), tmp_path / "run")
    got, folder = results(tmp_path / "run"), scores(tmp_path / "run")
    assert set(got["metrics"]) == {"save", "save_generate", "save_translate"} | OTHERS
    assert got["info"]["headline_route"] == "between"
    for row, groups in got["metrics"].items():
        assert set(groups) == {"all", "type_B"}, row
        assert all(v is not None for v in groups["all"].values()), row
    assert got["metrics"]["no_change"]["all"]["pcc_delta"] == 0
    assert got["registry"] == "response"
    cells = anndata.read_h5ad(folder / "predictions" / "type_B.h5ad")
    assert set(cells.obs["treatment"]) == {"stimulated"}
    assert (cells.layers[keys.COUNTS].data % 1 == 0).all()
    drawn = {p.name for p in (folder / "figures").iterdir()}
    assert {"type_B_means.png", "type_B_violins.png", "type_B_umap.png", "types.png"} <= drawn


def test_only_the_headline_is_trained_and_scored_unless_more_is_asked_for(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_B"), tmp_path / "run")
    got = results(tmp_path / "run")
    assert set(got["metrics"]) == {"save"} | OTHERS  # no `combined`: two training types are too few to weight it by
    assert SAVE.load(tmp_path / "run" / "folds" / "type_B").model.info["parts"] == ["autoencoder", "cells"]


def test_every_type_in_turn_is_the_mean_of_its_types_and_resume_repeats_nothing(tiny, tmp_path, monkeypatch):
    run(tiny(*TASK, "trainer.limit_steps=2"), tmp_path / "run")
    got = results(tmp_path / "run")
    types = [group for group in got["metrics"]["save"] if group != "all"]
    assert sorted(types) == ["type_A", "type_B", "type_C"]
    for row, groups in got["metrics"].items():
        assert groups["all"]["pcc"] == pytest.approx(np.mean([groups[t]["pcc"] for t in types])), row
    assert got["cost"]["steps"] == 3 * 4  # autoencoder and flow of three folds
    assert got["cost"]["seconds_fit"] > 0
    # the last fold is lost with its weights, the others must not be computed again
    (scores(tmp_path / "run") / "folds" / "type_C" / "fold.json").unlink()
    shutil.rmtree(tmp_path / "run" / "folds" / "type_C" / "checkpoints")
    fitted, fit = [], SaveMethod.fit
    monkeypatch.setattr(SaveMethod, "fit", lambda self, *a, **k: fitted.append(1) or fit(self, *a, **k))
    run(tiny(f"resume={tmp_path / 'run'}"), tmp_path / "elsewhere")
    again = results(tmp_path / "run")
    assert len(fitted) == 1
    assert again["metrics"] == got["metrics"]
    assert again["split_hash"] == got["split_hash"]


def test_evaluation_of_a_trained_run_gives_the_same_numbers(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_A"), tmp_path / "run")
    before, folder = results(tmp_path / "run"), scores(tmp_path / "run")
    shutil.rmtree(folder)
    run(tiny("mode=evaluate", f"ckpt={tmp_path / 'run'}", *TASK, "task.hold_out=type_A"), tmp_path / "x")
    after = results(tmp_path / "run")
    assert scores(tmp_path / "run") == folder
    assert after["metrics"] == before["metrics"]
    assert after["folds"] == before["folds"] == ["type_A"]


def test_held_out_cells_are_never_looked_at_before_scoring(tiny, tmp_path, monkeypatch):
    """Poisoned: their counts are NaN, their batch is known of them alone. Every prediction must be what it was."""
    loads = Simulated.load

    def poisoned(self, cache):
        data = loads(self, cache)
        held = (data.obs["cell_type"] == "type_B") & (data.obs["treatment"] == "stimulated")
        for matrix in (data.X, data.layers[keys.COUNTS]):
            rows = np.repeat(held.to_numpy(), np.diff(matrix.indptr))
            matrix.data[rows] = np.nan
        data.obs.loc[held, keys.LIBRARY] = np.nan
        data.obs["batch"] = data.obs["batch"].astype(str).where(~held, "theirs")
        return data

    cfg = tiny(*ROUTED, "task.hold_out=type_B", "data.n_top_genes=40")
    run(cfg, tmp_path / "clean")
    monkeypatch.setattr(Simulated, "load", poisoned)
    with pytest.raises(UserError, match="NaN"):  # only the scorer notices
        run(cfg, tmp_path / "poisoned")
    clean, bad = (SAVE.load(tmp_path / name / "folds" / "type_B").model for name in ("clean", "poisoned"))
    assert clean.genes == bad.genes
    assert clean.network.blocks.to_dict() == bad.network.blocks.to_dict()
    assert clean.conditions.to_list() == bad.conditions.to_list()
    assert clean.decoder_conditions == bad.decoder_conditions == ["batch"]
    assert clean.info == bad.info
    for name, value in clean.network.state_dict().items():
        assert (value == bad.network.state_dict()[name]).all(), name
    control = loads(Simulated(**_simulated()), tmp_path / "cache2")[:, clean.genes]
    control = control[(control.obs["treatment"] == "control") & (control.obs["cell_type"] == "type_B")].copy()
    for route in ("between", "generate", "translate"):
        a, b = (SAVE(model).respond(control, "stimulated", seed=0, route=route).X.toarray() for model in (clean, bad))
        assert (a == b).all(), route


def _simulated():
    return {
        "name": "simulated", "conditions": ["cell_type", "batch", "treatment"], "cell_type_key": "cell_type",
        "batch_key": "batch", "perturbation_key": "treatment", "control": "control", "n_cells": 240, "n_genes": 48,
        "n_types": 3, "n_batches": 2,
    }  # fmt: skip


def test_a_planted_effect_is_found_on_a_type_that_never_had_it(composed, tmp_path):
    cells = ["data=simulated", "data.n_cells=3000", "data.n_genes=100", "data.n_types=5", "data.effect_sd=1.5"]
    run(composed(*cells, *CLOSED, "data.type_specific=0.05", "blocking=random", "figures=false"), tmp_path / "run")
    found = results(tmp_path / "run")["metrics"]
    assert found["type_process"]["all"]["pcc_delta"] > 0.9
    assert found["type_process"]["all"]["pcc_delta"] > found["no_change"]["all"]["pcc_delta"]


@pytest.mark.slow
def test_the_flow_from_cells_finds_a_planted_effect(composed, tmp_path):
    cells = ["data=simulated", "data.n_cells=1500", "data.n_genes=80", "data.n_types=5", "data.effect_sd=1.5"]
    few = ["training.autoencoder_steps=500", "training.flow_steps=600", "training.cells_steps=100", "backbone.width=32"]
    cfg = composed(
        *cells, *TASK, *few, "data.type_specific=0.05", "blocking=random", "task.hold_out=type_A", "figures=false"
    )
    run(cfg, tmp_path / "run")
    found = results(tmp_path / "run")["metrics"]
    assert found["save"]["all"]["pcc_delta"] > 0.8
    assert found["save"]["all"]["pcc_delta"] > found["no_change"]["all"]["pcc_delta"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.hold_out=type_Q"], "task.hold_out=type_Q: no such cell type"),
        (["task.target=nothing"], "task.target=nothing: not a level of treatment; levels: stimulated"),
        (["data.control=nobody"], "data.control=nobody is no level of .treatment.; levels: control, stimulated"),
        (["task.route=teleport"], "task.route=teleport: method=save has between, combined, generate, translate, transfer"),
        (["task.routes=[generate, translat]"], "task.routes=translat: method=save has between, combined, generate, "),
        (["task.route=transfer", "task.hold_out=type_A"], "route=transfer: not defined: the decoder is not told the"),
        (["data.cell_type_key=null"], "names no column of them"),
        (["split=leave_out", "split.column=cell_type", "split.level=type_A", "split.where={treatment: control}"],
         "leaves no test cell with treatment=stimulated"),
        (["method=pca_gaussian"], "method=pca_gaussian is for generation; task=perturbation needs another"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(overrides, message, tiny, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tiny(*TASK, *overrides), tmp_path / "run")


def test_data_without_a_perturbation_is_refused_with_those_that_have_one(composed, tmp_path):
    with pytest.raises(UserError, match=r"pbmc68k names none.*pbmc_ifn, .*simulated"):
        run(composed("task=perturbation", "data=pbmc68k"), tmp_path / "run")


def test_a_route_that_was_not_trained_says_so(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_A"), tmp_path / "run")
    model = SAVE.load(tmp_path / "run" / "folds" / "type_A")
    cells = loaded_control(tmp_path)
    assert model.respond(cells, "stimulated").n_obs == cells.n_obs
    with pytest.raises(UserError, match="route=generate needs the part noise of the model; this run left it out"):
        model.respond(cells, "stimulated", route="generate")
    with pytest.raises(UserError, match="no such route; there are between, combined, generate, translate, transfer"):
        model.respond(cells, "stimulated", route="teleport")


def test_transfer_is_a_route_where_the_decoder_is_told_the_perturbation(tiny, tmp_path):
    told = ["backbone.told=[treatment, batch]", "task.route=transfer", "task.hold_out=type_A"]
    run(tiny(*TASK, *told), tmp_path / "run")
    model = SAVE.load(tmp_path / "run" / "folds" / "type_A").model
    assert sorted(model.decoder_conditions) == ["batch", "treatment"]
    assert model.info["parts"] == ["autoencoder"]
    assert results(tmp_path / "run")["info"]["headline_route"] == "transfer"
    assert list(ROUTES) == ["between", "combined", "generate", "translate", "transfer"]


def loaded_control(tmp_path):
    data = Simulated(**_simulated()).load(tmp_path / "cache")
    return data[data.obs["treatment"] == "control"][:20].copy()


def test_a_baseline_runs_through_the_same_door(tiny, tmp_path):
    run(tiny("task=perturbation", "task.min_cells=60", "method=gene_slope", "task.hold_out=type_A"), tmp_path / "run")
    got = results(tmp_path / "run")
    assert got["method"] == "gene_slope"
    assert "save" not in got["metrics"]
    shift, carry = (got["metrics"][row]["all"] for row in ("gene_slope", "gene_slope_carry"))
    assert shift["pcc_delta"] == pytest.approx(carry["pcc_delta"], abs=0.02)
    assert shift["w1"] != carry["w1"]


def test_any_two_levels_of_any_column_with_further_conditions(tiny, tmp_path):
    """From one batch to another, the treatment a condition beside them: no line of the task knows the columns."""
    overrides = [
        "data.perturbation_key=batch", "data.control=batch_1", "task.target=batch_2", "data.batch_key=null",
        "data.conditions=[treatment]", "data.nuisance=[treatment]", "task.hold_out=type_C",
    ]  # fmt: skip
    run(tiny(*ROUTED, *overrides), tmp_path / "run")
    got = results(tmp_path / "run")
    assert (got["info"]["control"], got["info"]["target"]) == ("batch_1", "batch_2")
    assert {"save", "save_generate", "save_translate"} <= set(got["metrics"])
    model = SAVE.load(tmp_path / "run" / "folds" / "type_C").model
    assert model.conditions.names == ["treatment", "batch", "cell_type"]
    assert model.decoder_conditions == ["treatment"]
    cells = anndata.read_h5ad(scores(tmp_path / "run") / "predictions" / "type_C.h5ad")
    assert set(cells.obs["batch"]) == {"batch_2"}


def test_levels_that_can_t_be_predicted_are_named_with_how_many_cells_they_have(tiny, tmp_path, monkeypatch):
    """One cell under the target, a type of one condition only, then nothing to learn from: one line each."""
    loads, kept = Simulated.load, {}

    def thinned(self, cache):
        data = loads(self, cache)
        held = np.zeros(data.n_obs, dtype=bool)
        for (kind, level), n in kept.items():
            rows = np.flatnonzero((data.obs["cell_type"] == kind) & (data.obs["treatment"] == level))
            held[rows[n:]] = True
        return data[~held].copy()

    monkeypatch.setattr(Simulated, "load", thinned)
    for kept_cells, hold_out, message in (
        ({("type_A", "stimulated"): 1}, "type_A", "has 1 cells with treatment=stimulated, 2 are needed .*; .*type_B, type_C"),
        ({("type_A", "control"): 1}, "type_A", "has 1 cells with treatment=control, 2 are needed"),
        ({("type_A", "stimulated"): 0}, "type_A", "has 0 cells with treatment=stimulated, 2 are needed"),
        ({("type_A", "control"): 0, ("type_B", "stimulated"): 0}, "all", "needs two cell types with cells under control and"),
    ):  # fmt: skip
        kept.clear()
        kept.update(kept_cells)
        with pytest.raises(UserError, match=message):
            run(tiny(*CLOSED, f"task.hold_out={hold_out}"), tmp_path / "run")
    # a type of one condition only is left out of `all`, not an error
    kept.clear()
    kept[("type_A", "stimulated")] = 0
    run(tiny(*CLOSED), tmp_path / "run")
    assert set(results(tmp_path / "run")["metrics"]["type_process"]) == {"all", "type_B", "type_C"}


def test_types_never_seen_under_the_target_are_what_is_predicted():
    obs = pd.DataFrame({"type": list("AABBCC") * 2, "condition": ["ctrl", "stim"] * 6}, index=list("abcdefghijkl"))
    data, columns = AnnData(obs=obs), Columns("toy", cell_type="type", perturbation="condition", control="ctrl")
    train = {"some of B and C": [0, 2, 3, 4, 5, 6, 8, 10], "some of each": [0, 1, 2, 3, 4, 5]}
    for name, asked in (("some of B and C", ["A"]), ("some of each", ["A", "B"])):
        test = [1, 7, 9] if name == "some of B and C" else [7, 9]
        split = make_split({"train": np.array(train[name]), "test": np.array(test)}, obs.index.to_numpy(), "toy")
        assert held_pairs(data, split, columns, ["stim"]) == [(kind, "stim") for kind in asked]
