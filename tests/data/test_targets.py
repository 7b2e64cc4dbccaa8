"""Targets of several columns: their labels, what a user may ask for, and numbers between and beyond those of training."""

import numpy as np
import pandas as pd
import pytest

from scsave.data.conditions import Numeric
from scsave.data.targets import (
    EXTRAPOLATED,
    INTERPOLATED,
    SEEN,
    Targets,
    asked_targets,
    labels,
    parsed,
    with_targets,
)
from scsave.errors import UserError
from scsave.keys import Columns

ROWS = [("ctrl", 0.0, "d1"), ("X", 10.0, "d2"), ("X", 100.0, "d2"), ("X", 1000.0, "d3"), ("Y", 10.0, "d3")]
OBS = pd.DataFrame(ROWS * 4, columns=["drug", "dose", "donor"]).assign(kind=list("AB") * 10, age=np.arange(20.0) % 3)
COLUMNS = Columns("t", ["drug", "dose", "age", "donor"], "kind", None, "drug", "ctrl")


def known() -> Targets:
    return Targets.of(OBS, with_targets(COLUMNS, OBS))


def test_numeric_columns_that_treated_cells_share_no_value_of_with_control_say_what_was_done():
    assert with_targets(COLUMNS, OBS).perturbation_columns == ["dose"]  # not age, and a donor is text
    named = Columns("t", COLUMNS.conditions, "kind", None, "drug", "ctrl", perturbation_columns=["donor"])
    assert with_targets(named, OBS).perturbation_columns == ["donor"]
    wrong = Columns("t", ["drug"], "kind", None, "drug", "ctrl", perturbation_columns=["dose"])
    with pytest.raises(UserError, match=r"data.perturbation_columns: dose is not among data.conditions"):
        with_targets(wrong, OBS)


def test_labels_name_every_column_and_are_read_back():
    found = labels(OBS, with_targets(COLUMNS, OBS))
    assert list(found[:5]) == ["ctrl", "X, dose=10", "X, dose=100", "X, dose=1000", "Y, dose=10"]
    assert parsed("X, dose=10", ["dose"]) == ("X", {"dose": "10"})
    assert parsed("X, odd=1, dose=10, time=6", ["dose", "time"]) == ("X, odd=1", {"dose": "10", "time": "6"})
    obs = known().assigned(OBS.iloc[:2].assign(dose="0"), "X, dose=10")
    assert list(obs["drug"]) == ["X", "X"]
    assert list(obs["dose"]) == [10.0, 10.0]
    assert Targets.from_dict(known().to_dict()) == known()


def test_what_is_asked_for_is_a_level_some_columns_or_a_list():
    three = ["X, dose=10", "X, dose=100", "X, dose=1000"]

    def asked(what):
        return asked_targets(known().labels, what, "drug", ["dose"])

    assert asked(None) == [*three, "Y, dose=10"]  # by the value of the dose, not its text
    assert asked("X") == three
    assert asked({"drug": "X", "dose": 10}) == ["X, dose=10"]
    assert asked({"dose": 10.0}) == ["X, dose=10", "Y, dose=10"]
    assert asked([{"drug": "Y"}, "X, dose=100"]) == ["Y, dose=10", "X, dose=100"]
    for what, message in (
        ("Z", "task.target=Z: no such combination of drug, dose; there are: X, dose=10"),
        ({"drug": "Y", "dose": 100}, "task.target=drug=Y, dose=100: no such combination"),
        ({"donor": "d1"}, "task.target names donor; the columns of the perturbation are drug, dose"),
    ):
        with pytest.raises(UserError, match=message):
            asked(what)
    assert known().asked({"drug": "X", "dose": 30}) == ["X, dose=30"]  # a model may be asked for any number


def test_doses_in_between_and_beyond_are_said_to_be_and_read_off_their_neighbours():
    targets = known()
    assert targets.columns[0].unit == 10.0  # they differ by a factor of 100: logarithms
    assert [targets.status(f"X, dose={d}") for d in (10, 30, 5, 2000)] == [
        SEEN,
        INTERPOLATED,
        INTERPOLATED,
        EXTRAPOLATED,
    ]
    assert targets.status("Y, dose=30") == EXTRAPOLATED  # Y was seen at 10 alone
    at = {d: np.log1p(d / 10) for d in (0, 5, 10, 30, 100)}
    share = (at[30] - at[10]) / (at[100] - at[10])
    found = targets.weights("X, dose=30")
    assert found["X, dose=10"] == pytest.approx(1 - share)
    assert found["X, dose=100"] == pytest.approx(share)
    assert found["X, dose=1000"] == pytest.approx(0, abs=1e-9)
    low = targets.weights("X, dose=5")  # between control, at dose 0, and the first
    assert low["X, dose=10"] == pytest.approx(at[5] / at[10])
    assert low["ctrl"] == pytest.approx(1 - at[5] / at[10])
    beyond = targets.weights("X, dose=9000")
    assert beyond["X, dose=1000"] == pytest.approx(1)
    assert sum(abs(w) for w in beyond.values()) == pytest.approx(1)
    assert targets.weights("X, dose=10") == {"X, dose=10": 1.0}
    for label, message in (("Z, dose=1", "target=Z: training saw no such level of drug; it saw: X, Y"),
                           ("X", "target=X lacks dose")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            targets.status(label)


def test_numbers_that_lie_close_together_stay_as_they_are():
    assert Numeric.fit("age", pd.Series([20.0, 40.0, 80.0]), spread=True).unit is None
    assert Numeric.fit("t", pd.Series([-1.0, 100.0]), spread=True).unit is None
    assert Numeric.fit("dose", pd.Series([1.0, 1000.0])).unit is None  # only doses are asked to be spread
