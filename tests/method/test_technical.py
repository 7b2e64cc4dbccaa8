"""Technical columns: which the decoder is given, and which levels generated cells get."""

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scsave import keys
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.method.sample import with_technical
from scsave.method.technical import every_column, technical_columns


def columns(*nuisance):
    return Columns(
        "t", ["condition"], "type", "batch", "condition", "ctrl", nuisance=list(nuisance) or None, carried=["x"]
    )


def table(**more):
    base = {"condition": ["ctrl", "stim"] * 50, "type": ["B"] * 100, "batch": ["1", "1", "2", "2"] * 25}
    return pd.DataFrame(base | more)


def test_the_batch_is_technical_and_a_column_nested_in_the_perturbation_is_left_out(caplog):
    obs = table(donor=["d1", "d2"] * 50)  # d2 has treated cells only
    assert technical_columns(columns(), obs) == ["batch"]
    with caplog.at_level(logging.INFO, logger="scsave"):
        assert technical_columns(columns("batch", "donor", "batch"), obs) == ["batch"]
    said = [record.getMessage() for record in caplog.records if "donor" in record.getMessage()]
    assert len(said) == 1
    assert "its level d2 has no control cells (condition=ctrl)" in said[0]
    unperturbed = Columns("t", ["type"], "type", "batch", nuisance=["donor"])
    assert technical_columns(unperturbed, obs) == ["donor"]
    assert every_column(columns(), ["batch"]) == ["condition", "type", "batch"]


def test_small_levels_without_control_are_tolerated():
    few = table(lane=["a"] * 95 + ["doublet"] * 5)
    few.loc[95:, "condition"] = "stim"
    assert technical_columns(columns("lane"), few) == ["lane"]
    more = table(lane=["a"] * 93 + ["doublet"] * 7)
    more.loc[93:, "condition"] = "stim"
    assert technical_columns(columns("lane"), more) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lane", r"data\.nuisance=lane: not among the columns that are read \(x\); read it with data\.keep=\[lane\]"),
        ("type", r"data\.nuisance=type: what is to be kept"),
        ("condition", r"data\.nuisance=condition: what is to be kept"),
    ],
)
def test_a_column_that_cannot_be_technical_is_one_line(name, words):
    with pytest.raises(UserError, match=words) as said:
        technical_columns(columns(name), table())
    assert "\n" not in str(said.value)


LEVELS = [
    {"type": "B", "batch": "1", "cells": 30}, {"type": "B", "batch": "2", "cells": 10},
    {"type": "T", "batch": "2", "cells": 60},
]  # fmt: skip
MODEL = SimpleNamespace(info={"levels": LEVELS, "technical": ["batch"]})


def test_technical_levels_are_drawn_as_training_has_them():
    n = 4000
    found = with_technical(MODEL, pd.DataFrame({"type": ["B", "T"] * n}), seed=0)
    assert set(found.batch[found.type == "T"]) == {"2"}
    assert (found.batch[found.type == "B"] == "1").mean() == pytest.approx(0.75, abs=0.03)
    masked = with_technical(MODEL, pd.DataFrame({"type": [keys.MASK] * n, "batch": [keys.MASK] * n}), seed=0)
    assert (masked.batch == "2").mean() == pytest.approx(0.7, abs=0.03)
    assert (masked.type == keys.MASK).all()
    again = with_technical(MODEL, pd.DataFrame({"type": ["B", "T"] * n}), seed=0)
    pd.testing.assert_frame_equal(found, again)


def test_levels_that_are_asked_for_stay():
    asked = pd.DataFrame({"type": ["B"] * 5, "batch": ["2"] * 5})
    pd.testing.assert_frame_equal(with_technical(MODEL, asked, seed=0), asked)
    assert np.array_equal(with_technical(MODEL, asked[["type"]][:0], seed=0).columns, ["type"])
