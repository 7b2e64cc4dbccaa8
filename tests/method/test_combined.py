"""Route `combined`: how the network's change and a closed form's are weighted, and that the weight is used."""

import anndata
import numpy as np
import pytest

from scsave import SAVE
from scsave.errors import UserError
from scsave.keys import COMBINED
from scsave.method.combined import choose, mixed, trust_entries
from scsave.runs.run import run

from ..conftest import results


def changes(rng, quality, truth):
    return {n: {t: v + rng.normal(0, 1 - quality, len(v)) for t, v in own.items()} for n, own in truth.items()}


def truth_of(rng, strata=4, genes=400):
    return {f"type {k}": {"drug": rng.normal(size=genes)} for k in range(strata)}


@pytest.mark.parametrize(
    ("network", "closed", "expected"), [(0.95, 0.05, (0.75, 1.0)), (0.05, 0.95, (0.0, 0.25)), (0.4, 0.4, (0.5,))]
)
def test_the_weight_follows_how_each_did_on_held_out_strata(network, closed, expected):
    rng = np.random.default_rng(0)
    truth = truth_of(rng)
    weight, scores = choose(changes(rng, network, truth), changes(rng, closed, truth), truth)
    assert weight in expected
    assert set(scores) == set(truth)


def test_two_that_are_the_same_share_the_weight_and_the_scores_are_of_the_mixture():
    rng = np.random.default_rng(1)
    truth = truth_of(rng)
    one = changes(rng, 0.5, truth)
    weight, scores = choose(one, one, truth)
    assert weight == 0.5
    for name, own in truth.items():
        assert scores[name]["drug"] == pytest.approx(np.corrcoef(own["drug"], one[name]["drug"])[0, 1])
    entries = trust_entries(scores, {name: {"distance": 2.0} for name in truth})
    assert entries["type 0"]["pcc"] == scores["type 0"]["drug"]
    assert entries["type 0"]["distance"] == 2.0


def test_strata_that_the_closed_form_knows_nothing_of_do_not_count():
    rng = np.random.default_rng(2)
    truth = truth_of(rng)
    network = changes(rng, 0.9, truth)
    known = {name: own for name, own in changes(rng, 0.2, truth).items() if name != "type 3"}
    assert set(choose(network, known, truth)[1]) == {"type 0", "type 1", "type 2"}
    assert choose(network, {}, truth) is None


def test_without_enough_strata_the_route_is_refused_and_the_row_left_out(tiny, tmp_path):
    run(tiny("task=perturbation", "task.min_cells=60", "task.hold_out=type_B"), tmp_path / "run")
    assert COMBINED not in results(tmp_path / "run")["metrics"]
    model = SAVE.load(tmp_path / "run" / "folds" / "type_B")
    control = anndata.read_h5ad(next((tmp_path / "run").rglob("type_B.h5ad")))
    control.obs["treatment"] = "control"
    with pytest.raises(UserError, match="too few training strata"):
        model.respond(control, "stimulated", route=COMBINED)


def test_mixed_is_linear():
    a, b = np.array([1.0, 2.0]), np.array([3.0, -2.0])
    assert mixed(0.25, a, b).tolist() == [2.5, -1.0]
