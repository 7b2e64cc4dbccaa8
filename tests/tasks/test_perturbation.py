"""task=perturbation from config to files: leakage, recovery of a planted effect, resume, and its mistakes."""

import json

import anndata
import numpy as np
import pytest

from scsave import SAVE, keys
from scsave.data.simulate.cells import Simulated
from scsave.errors import UserError
from scsave.runs.run import run

TASK = ["task=perturbation", "response=default", "task.min_cells=60"]
HEAD = [*TASK, "task.routes=[response]"]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_all_routes_are_scored_beside_baselines_and_the_run_leaves_its_files(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_B", "figures=true"), tmp_path / "run")
    got = results(tmp_path / "run")
    ours = {"scsave", "scsave_transfer", "scsave_generate", "scsave_translate"}
    others = {"no_change", "mean_shift", "similar_shift", "gene_slope", "gene_slope_carry", "matching_mean", "ceiling"}
    assert set(got["metrics"]) == ours | others
    for row, groups in got["metrics"].items():
        assert set(groups) == {"all", "type_B"}, row
        assert all(v is not None for v in groups["all"].values()), row
    assert got["metrics"]["no_change"]["all"]["pcc_delta"] == 0
    assert got["registry"] == "response"
    cells = anndata.read_h5ad(tmp_path / "run" / "predictions" / "type_B.h5ad")
    assert set(cells.obs["treatment"]) == {"stimulated"}
    assert (cells.layers[keys.COUNTS].data % 1 == 0).all()
    drawn = {p.name for p in (tmp_path / "run" / "figures").iterdir()}
    assert {"type_B_means.png", "type_B_violins.png", "type_B_umap.png", "types.png"} <= drawn


def test_every_type_in_turn_is_the_mean_of_its_types_and_resume_repeats_nothing(tiny, tmp_path, monkeypatch):
    cfg = tiny(*HEAD)
    run(cfg, tmp_path / "run")
    got = results(tmp_path / "run")
    types = [group for group in got["metrics"]["scsave"] if group != "all"]
    assert sorted(types) == ["type_A", "type_B", "type_C"]
    for row, groups in got["metrics"].items():
        assert groups["all"]["pcc"] == pytest.approx(np.mean([groups[t]["pcc"] for t in types])), row
    assert got["cost"]["steps"] == 0  # no network; the head saw the training cells of three folds
    assert 3 * 100 < got["cost"]["cells_seen"] < 3 * 240
    assert got["cost"]["seconds_fit"] > 0
    # the last fold is lost, the others must not be computed again
    (tmp_path / "run" / "folds" / "type_C" / "fold.json").unlink()
    fitted = []
    original = SAVE.fit
    monkeypatch.setattr(SAVE, "fit", lambda self, *a, **k: fitted.append(1) or original(self, *a, **k))
    run(tiny(f"resume={tmp_path / 'run'}"), tmp_path / "elsewhere")
    again = results(tmp_path / "run")
    assert len(fitted) == 1
    assert again["metrics"] == got["metrics"]
    assert again["split_hash"] == got["split_hash"]


def test_evaluation_of_a_trained_run_gives_the_same_numbers(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_A"), tmp_path / "run")
    run(tiny("mode=evaluate", f"ckpt={tmp_path / 'run'}"), tmp_path / "run" / "evaluate")
    assert results(tmp_path / "run" / "evaluate")["metrics"] == results(tmp_path / "run")["metrics"]


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

    cfg = tiny(*TASK, "task.hold_out=type_B", "data.n_top_genes=40")
    run(cfg, tmp_path / "clean")
    monkeypatch.setattr(Simulated, "load", poisoned)
    with pytest.raises(UserError, match="NaN"):  # only the scorer notices
        run(cfg, tmp_path / "poisoned")
    clean, bad = (SAVE.load(tmp_path / name / "folds" / "type_B") for name in ("clean", "poisoned"))
    assert clean.genes == bad.genes
    assert clean.model.blocks.to_dict() == bad.model.blocks.to_dict()
    assert clean.conditions.to_list() == bad.conditions.to_list()
    assert clean.decoder_conditions == bad.decoder_conditions == ["treatment", "batch"]
    for name, value in clean.model.state_dict().items():
        assert (value == bad.model.state_dict()[name]).all(), name
    control = loads(Simulated(**_simulated()), tmp_path / "cache2")[:, clean.genes]
    control = control[(control.obs["treatment"] == "control") & (control.obs["cell_type"] == "type_B")].copy()
    for route in SAVE.routes:
        a, b = (model.respond(control, "stimulated", seed=0, route=route).X.toarray() for model in (clean, bad))
        assert (a == b).all(), route


def _simulated():
    return {
        "name": "simulated", "conditions": ["cell_type", "batch", "treatment"], "cell_type_key": "cell_type",
        "batch_key": "batch", "perturbation_key": "treatment", "control": "control", "n_cells": 240, "n_genes": 48,
        "n_types": 3, "n_batches": 2,
    }  # fmt: skip


def test_a_planted_effect_is_found_on_a_type_that_never_had_it(composed, tmp_path):
    cells = ["data=simulated", "data.n_cells=3000", "data.n_genes=100", "data.n_types=5", "data.effect_sd=1.5"]
    run(composed(*cells, *HEAD, "data.type_specific=0.05", "blocking=random", "figures=false"), tmp_path / "run")
    found = results(tmp_path / "run")["metrics"]
    assert found["scsave"]["all"]["pcc_delta"] > 0.9
    assert found["scsave"]["all"]["pcc_delta"] > found["no_change"]["all"]["pcc_delta"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.hold_out=type_Q"], "task.hold_out=type_Q: no such cell type"),
        (["task.target=nothing"], "task.target=nothing: not a level of treatment; levels: stimulated"),
        (["data.control=nobody"], "data.control=nobody is no level of .treatment.; levels: control, stimulated"),
        (["task.route=transfer", "task.routes=[response]"], "task.route=transfer is not among task.routes"),
        (["data.cell_type_key=null"], "names no column of them"),
        (["split=leave_out", "split.column=cell_type", "split.level=type_A", "split.where={treatment: control}"],
         "leaves no test cell with treatment=stimulated"),
        (["baseline=pca_gaussian"], "baseline=pca_gaussian is for generation; task=perturbation needs another"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(overrides, message, tiny, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tiny(*HEAD, *overrides), tmp_path / "run")


def test_data_without_a_perturbation_is_refused_with_those_that_have_one(composed, tmp_path):
    with pytest.raises(UserError, match=r"pbmc68k names none.*pbmc_ifn, .*simulated"):
        run(composed("task=perturbation", "data=pbmc68k"), tmp_path / "run")


def test_a_route_that_was_not_trained_says_so(tiny, tmp_path):
    run(tiny(*HEAD, "task.hold_out=type_A"), tmp_path / "run")
    model = SAVE.load(tmp_path / "run" / "folds" / "type_A")
    cells = loaded_control(tmp_path)
    assert model.respond(cells, "stimulated").n_obs == cells.n_obs
    with pytest.raises(UserError, match="route=generate needs a trained flow; this run left it out"):
        model.respond(cells, "stimulated", route="generate")
    with pytest.raises(UserError, match="no such route; there are response, transfer, generate, translate"):
        model.respond(cells, "stimulated", route="teleport")


def loaded_control(tmp_path):
    data = Simulated(**_simulated()).load(tmp_path / "cache")
    return data[data.obs["treatment"] == "control"][:20].copy()


def test_a_baseline_runs_through_the_same_door(tiny, tmp_path):
    run(tiny("task=perturbation", "task.min_cells=60", "baseline=gene_slope", "task.hold_out=type_A"), tmp_path / "run")
    got = results(tmp_path / "run")
    assert got["method"] == "gene_slope"
    assert "scsave" not in got["metrics"]
    shift, carry = (got["metrics"][row]["all"] for row in ("gene_slope", "gene_slope_carry"))
    assert shift["pcc_delta"] == pytest.approx(carry["pcc_delta"], abs=0.02)
    assert shift["w1"] != carry["w1"]


def test_any_two_levels_of_any_column_with_further_conditions(tiny, tmp_path):
    """From one batch to another, the treatment a condition beside them: no line of the task knows the columns."""
    overrides = [
        "data.perturbation_key=batch", "data.control=batch_1", "task.target=batch_2", "data.batch_key=null",
        "data.conditions=[treatment]", "task.nuisance=[treatment]", "task.hold_out=type_C",
    ]  # fmt: skip
    run(tiny(*TASK, *overrides), tmp_path / "run")
    got = results(tmp_path / "run")
    assert (got["info"]["control"], got["info"]["target"]) == ("batch_1", "batch_2")
    assert {"scsave", "scsave_transfer", "scsave_generate", "scsave_translate"} <= set(got["metrics"])
    model = SAVE.load(tmp_path / "run" / "folds" / "type_C")
    assert model.conditions.names == ["treatment", "batch", "cell_type"]
    assert model.decoder_conditions == ["batch", "treatment"]
    cells = anndata.read_h5ad(tmp_path / "run" / "predictions" / "type_C.h5ad")
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
        ({("type_A", "stimulated"): 1}, "type_A", "has 1 cells with treatment=stimulated, 2 are needed; .*type_B, type_C"),
        ({("type_A", "control"): 1}, "type_A", "has 1 cells with treatment=control, 2 are needed"),
        ({("type_A", "stimulated"): 0}, "type_A", "has 0 cells with treatment=stimulated, 2 are needed"),
        ({("type_A", "control"): 0, ("type_B", "stimulated"): 0}, "all", "needs two cell types with cells under control and"),
    ):  # fmt: skip
        kept.clear()
        kept.update(kept_cells)
        with pytest.raises(UserError, match=message):
            run(tiny(*HEAD, f"task.hold_out={hold_out}"), tmp_path / "run")
    # a type of one condition only is left out of `all`, not an error
    kept.clear()
    kept[("type_A", "stimulated")] = 0
    run(tiny(*HEAD), tmp_path / "run")
    assert set(results(tmp_path / "run")["metrics"]["scsave"]) == {"all", "type_B", "type_C"}
