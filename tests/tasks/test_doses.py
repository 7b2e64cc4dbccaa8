"""task=perturbation where a drug and its dose say what was done: combinations, what is held out, doses left out."""

import anndata
import numpy as np
import pytest

from scsave import SAVE
from scsave.data.simulate.cells import Simulated
from scsave.errors import UserError
from scsave.method.respond import counterfactual
from scsave.runs.run import run
from scsave.stats.expected import TRUST

from ..conftest import results, scores

CELLS = [
    "data=simulated_doses", "data.n_cells=900", "data.n_genes=48", "data.n_types=3", "data.n_batches=1", "data.n_drugs=1",
    "data.doses=[1, 10, 100]", "data.batch_key=null", "data.conditions=[cell_type, treatment, dose]", "blocking=random",
]  # fmt: skip
TASK = ["task=perturbation", "task.min_cells=20"]
CLOSED = [*TASK, "method=type_process"]


def test_every_combination_is_predicted_from_one_fit_of_a_type_held_out(tiny, tmp_path):
    run(tiny(*TASK, "task.hold_out=type_B", cells=CELLS), tmp_path / "run")
    got = results(tmp_path / "run")
    three = [f"type_B, stimulated, dose={d}" for d in (1, 10, 100)]
    assert list(got["info"]["types"]) == three
    assert set(got["metrics"]["save"]) == {"all", *three}
    assert got["info"]["hold_out_scope"] == "type"
    assert got["folds"] == ["type_B"]
    assert set(got["info"][TRUST]) == set(three)
    cells = anndata.read_h5ad(next((scores(tmp_path / "run") / "predictions").glob("type_B*dose_10-*.h5ad")))
    assert set(cells.obs["treatment"]) == {"stimulated"}
    assert set(cells.obs["dose"]) == {10.0}
    # the model: told the dose, a shift for each, and never the control's dose
    model = SAVE.load(tmp_path / "run" / "folds" / "type_B")
    network = model.model.network
    assert network.velocity.told == ("treatment", "dose")
    assert len(network.velocity.shifts) == 4
    start = Simulated(**_source()).load(tmp_path / "cache")
    start = start[start.obs["treatment"] == "control"][:12].copy()
    for target, dose in (("stimulated, dose=10", "10"), ("stimulated", "[MASK]")):
        assert set(counterfactual(model.model, start.obs, target)["dose"].astype(str)) == {dose}
    cells = model.predict(start, {"treatment": "stimulated", "dose": 10})
    assert set(cells.obs["dose"]) == {10.0}
    assert set(model.predict(start).obs["dose"]) == {1.0, 10.0, 100.0}
    with pytest.raises(
        UserError, match="target=drugs: no such combination of treatment, dose; there are: stimulated, dose=1"
    ):
        model.predict(start, "drugs")


def test_a_dose_in_between_is_interpolated_and_one_beyond_is_said_to_be_extrapolated(tiny, tmp_path, caplog):
    for dose, status in ((10, "interpolated"), (100, "extrapolated")):
        options = [f"task.target={{treatment: stimulated, dose: {dose}}}", "task.hold_out_scope=level"]
        run(tiny(*TASK, *options, cells=CELLS), tmp_path / f"at{dose}")
        got = results(tmp_path / f"at{dose}")
        assert set(got["info"]["types"]) == {"type_A", "type_B", "type_C"}
        assert {one["in_training"] for one in got["info"]["types"].values()} == {status}
        assert got["info"]["hold_out_scope"] == "level"
        assert f"its numbers are {status} from those that training cells have" in caplog.text
        assert {"save", "mean_shift", "gene_slope"} <= set(got["metrics"])  # the references interpolate too
        table = anndata.read_h5ad(scores(tmp_path / f"at{dose}") / "predictions" / "type_A.h5ad").uns[TRUST]
        assert list(table["note"]) == [status]


def test_one_combination_of_one_type_can_be_held_out(tiny, tmp_path):
    options = ["task.target={dose: 100}", "task.hold_out_scope=combination", "task.hold_out=type_C"]
    run(tiny(*CLOSED, *options, cells=CELLS), tmp_path / "run")
    got = results(tmp_path / "run")
    assert got["folds"] == ["type_C, stimulated, dose=100"]
    assert got["info"]["hold_out_scope"] == "combination"
    assert list(got["info"]["types"]) == ["type_C"]


def test_a_closed_form_finds_the_response_to_a_dose_that_it_never_saw(composed, tmp_path):
    """Interpolated between two neighbours: nearer to the truth than either neighbour's change."""
    cells = [
        *[c for c in CELLS if "n_cells" not in c and "doses=" not in c], "data.n_cells=6000", "data.doses=[1, 10, 100]",
        "data.effect_sd=1.5", "data.type_specific=0", "figures=false",
    ]  # fmt: skip
    options = ["task.target={dose: 10}", "task.hold_out_scope=level", "method=mean_shift"]
    run(composed(*cells, *TASK, *options), tmp_path / "run")
    found = results(tmp_path / "run")["metrics"]["mean_shift"]["all"]
    assert found["pcc_delta"] > 0.9
    assert found["r2_delta"] > 0.7


def test_a_simulated_dose_scales_the_effect(tmp_path):
    data = Simulated(**_source() | {"n_cells": 3000, "n_types": 1, "doses": [1.0, 100.0]}).load(tmp_path / "cache")
    control = np.asarray(data.X[(data.obs["dose"] == 0).to_numpy()].mean(axis=0)).ravel()
    low, high = (
        np.asarray(data.X[(data.obs["dose"] == d).to_numpy()].mean(axis=0)).ravel() - control for d in (1.0, 100.0)
    )
    assert np.linalg.norm(high) > 3 * np.linalg.norm(low)
    assert set(data.obs["treatment"][data.obs["dose"] == 0]) == {"control"}


def _source():
    return {
        "name": "simulated_doses", "conditions": ["cell_type", "treatment", "dose"], "cell_type_key": "cell_type",
        "perturbation_key": "treatment", "control": "control", "n_cells": 900, "n_genes": 48, "n_types": 3, "n_batches": 1,
        "doses": [1.0, 10.0, 100.0],
    }  # fmt: skip
