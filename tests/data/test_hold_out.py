import dataclasses

import numpy as np
import pytest

from scsave.data.splits.hold_out import HoldOut
from scsave.errors import UserError
from scsave.keys import Columns
from tests.metrics.cells import prepared

SOURCE = Columns(name="t", conditions=["state", "type"], perturbation="state", control="x", cell_type="type")
GENES = Columns(name="t", conditions=["p"], perturbation="p", kind="genes", control="control", batch=None)


def cells(rows):
    """`rows` of (type, state, n)."""
    kind = np.repeat([r[0] for r in rows], [r[2] for r in rows])
    state = np.repeat([r[1] for r in rows], [r[2] for r in rows])
    return prepared(np.ones((len(kind), 3)), {"type": kind, "state": state})


@pytest.fixture
def data():
    return cells(
        [("A", "x", 9), ("A", "y", 8), ("B", "x", 7), ("B", "y", 6), ("C", "x", 5), ("D", "y", 4), ("D", "x", 1)]
    )


def test_every_type_with_both_levels_is_held_out_in_turn(data):
    folds = HoldOut().folds(data, SOURCE)
    assert list(folds) == ["A", "B"]
    split = folds["B"](data, SOURCE, 0)
    test = data.obs.iloc[split.test]
    assert set(test["type"]) == {"B"}
    assert set(test["state"]) == {"y"}
    assert len(test) == 6
    assert len(split.train) + len(split.val) == data.n_obs - 6
    assert list(HoldOut(hold_out="A").folds(data, SOURCE)) == ["A"]
    assert list(HoldOut(hold_out=["B", "A"]).folds(data, SOURCE)) == ["B", "A"]
    assert HoldOut()(data, SOURCE, 0).hash == folds["A"](data, SOURCE, 0).hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"hold_out": "C"},
            r"task.hold_out=C: has 0 cells with state=y, 2 are needed to score it \(mode=predict needs none, with a model of "
            r"other types\); types that can be held out: A, B",
        ),
        ({"hold_out": "D"}, "task.hold_out=D: has 1 cells with state=x, 2 are needed to score it; types"),
        ({"hold_out": "Q"}, "task.hold_out=Q: no such cell type"),
        ({"target": "z"}, "task.target=z: not a level of state; levels: y"),
    ],
)
def test_what_cannot_be_held_out_is_said(data, options, message):
    with pytest.raises(UserError, match=message):
        HoldOut(**options).folds(data, SOURCE)


def test_of_several_targets_every_one_is_held_out_of_a_type_unless_the_scope_says_else():
    data = cells([(t, s, 3) for t in "AB" for s in "xyz"])
    split = HoldOut().folds(data, SOURCE)["A"](data, SOURCE, 0)
    assert set(data.obs["state"].iloc[split.test]) == {"y", "z"}
    assert HoldOut(target="z").folds(data, SOURCE)["A"](data, SOURCE, 0).hash == split.hash
    folds = HoldOut(hold_out_scope="combination").folds(data, SOURCE)
    assert list(folds) == ["A, y", "A, z", "B, y", "B, z"]
    one = folds["A, z"](data, SOURCE, 0)
    assert set(data.obs["state"].iloc[one.test]) == {"z"}
    assert one.info["scope"] == "combination"
    assert list(HoldOut(hold_out_scope="combination", target="z", hold_out="B").folds(data, SOURCE)) == ["B, z"]
    level = HoldOut(hold_out_scope="level").folds(data, SOURCE)
    assert list(level) == ["y", "z"]
    with pytest.raises(
        UserError, match=r"task.hold_out_scope=level: target=y: training saw no such level of state; it saw: z"
    ):
        level["y"](data, SOURCE, 0)
    (only,) = HoldOut(hold_out_scope="level", target="y").folds(cells([("A", "x", 3), ("A", "y", 3)]), SOURCE).values()
    with pytest.raises(UserError, match="without y no treated cell is left to learn from"):
        only(cells([("A", "x", 3), ("A", "y", 3)]), SOURCE, 0)
    doses = cells([(t, s, 6) for t in "AB" for s in "xyz"])
    doses.obs["state"] = doses.obs["state"].astype(str).replace("z", "y")
    doses.obs["dose"] = np.where(doses.obs["state"] == "x", 0.0, np.arange(doses.n_obs) % 2 + 1.0)
    columns = dataclasses.replace(SOURCE, conditions=["state", "type", "dose"], perturbation_columns=["dose"])
    split = HoldOut(hold_out_scope="level", target={"dose": 2}).folds(doses, columns)["y, dose=2"](doses, columns, 0)
    test = doses.obs.iloc[split.test]
    assert set(test["type"]) == {"A", "B"}
    assert set(test["dose"]) == {2.0}
    with pytest.raises(UserError, match=r"task.hold_out names a type, but task.hold_out_scope=level"):
        HoldOut(hold_out_scope="level", hold_out="A").folds(data, SOURCE)


def test_a_control_level_that_is_not_there():
    with pytest.raises(UserError, match=r"no cell has state=x \(data.control\); levels: y"):
        HoldOut().folds(cells([("A", "y", 3), ("B", "y", 3)]), SOURCE)


def test_sets_of_genes_have_gears_split_or_one_fold_a_perturbation():
    labels = np.repeat(["control", *(f"G{i}" for i in range(12)), "G0+G1", "G2+G3"], 10)
    data = prepared(np.ones((len(labels), 3)), {"p": labels})
    assert list(HoldOut().folds(data, GENES)) == [""]
    folds = HoldOut(hold_out="all").folds(data, GENES)
    assert len(folds) == 14
    split = folds["G0+G1"](data, GENES, 0)
    assert set(data.obs["p"].iloc[split.parts()["combo_seen2"]]) == {"G0+G1"}
    assert "G0+G1" not in set(data.obs["p"].iloc[split.train])
    assert set(data.obs["p"].iloc[split.parts()["control"]]) == {"control"}
    assert list(HoldOut(hold_out=["G1_G0", "ctrl+G7", "G7"]).folds(data, GENES)) == ["G0+G1", "G7"]
    assert list(HoldOut(hold_out=["g1+G0", "g7"]).folds(data, GENES)) == ["G0+G1", "G7"]
    assert len(HoldOut(hold_out=["all"]).folds(data, GENES)) == 14
    with pytest.raises(UserError, match="name what is held out"):
        HoldOut(hold_out=[]).folds(data, GENES)
    with pytest.raises(UserError, match=r"hold_out=G12: no such perturbation; there are .*G11, .*\(14 in all\)"):
        HoldOut(hold_out="G12").folds(data, GENES)
    with pytest.raises(UserError, match="hold_out=control: no such perturbation"):
        HoldOut(hold_out="control").folds(data, GENES)
