"""Combinations never seen: which seen one they are made from, how far they are moved, and what stays as it is."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scsave import keys
from scsave.method.fitted import Seen
from scsave.method.unseen import FEWEST, nearest, start_of

TYPES, DRUGS = ("a", "b", "c"), ("control", "x")
TYPE, DRUG = {"a": [0.0, 0.0], "b": [9.0, 0.0], "c": [0.0, 9.0]}, {"control": [0.0, 0.0], "x": [1.0, 2.0]}


def seen(missing: set[tuple[str, str]], bend: float = 0.0, cells: int = 50) -> Seen:
    """Means that add up, but for `bend` on each treated type by its number."""
    rows = [(t, d) for t in TYPES for d in DRUGS if (t, d) not in missing]
    mean = [np.add(TYPE[t], DRUG[d]) + (d == "x") * bend * TYPES.index(t) for t, d in rows]
    table = pd.DataFrame(rows, columns=["type", "drug"])
    return Seen(table, np.full(len(rows), cells), np.array(mean, dtype=np.float32))


def model(known: Seen | None, unseen: str = "nearest") -> SimpleNamespace:
    return SimpleNamespace(seen=known, sampler=SimpleNamespace(unseen=unseen))


def asked(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["type", "drug"])


@pytest.mark.parametrize(
    ("lost", "start", "shift"), [(("c", "x"), "control", [1, 2]), (("c", "control"), "x", [-1, -2])]
)
def test_the_column_that_moves_cells_alike_everywhere_is_followed_in_either_direction(lost, start, shift):
    found = nearest(seen({lost}), lost)
    assert (found.column, found.level, found.strata) == ("drug", start, 2)
    np.testing.assert_allclose(found.shift, shift, atol=1e-6)


def test_where_one_stratum_alone_tells_a_change_the_shortest_is_taken():
    table = pd.DataFrame([("a", "control"), ("b", "control"), ("a", "x")], columns=["type", "drug"])
    known = Seen(table, np.full(3, 50), np.array([[0, 0], [9, 0], [1, 2]], dtype=np.float32))
    found = nearest(known, ("b", "x"))
    assert (found.column, found.level, found.strata) == ("drug", "control", 1)
    near = Seen(table, np.full(3, 50), np.array([[0, 0], [0.1, 0], [1, 2]], dtype=np.float32))
    assert nearest(near, ("b", "x")).column == "type"


def test_a_change_that_differs_between_strata_counts_by_its_spread():
    """Types differ by the same wherever they are measured, the drug does not: types are followed."""
    rows = [(t, d) for t in ("a", "b") for d in ("control", "x", "y")][:-1]
    drug = {"control": [0, 0], "x": [50, 0], "y": [0, 50]}
    mean = [np.add([1.0, 0] if t == "b" else [0, 0], drug[d]) for t, d in rows]
    known = Seen(pd.DataFrame(rows, columns=["type", "drug"]), np.full(5, 50), np.array(mean, dtype=np.float32))
    found = nearest(known, ("b", "y"))
    assert (found.column, found.level, found.strata) == ("type", "a", 2)


def test_nothing_is_copied_from_a_handful_of_cells_or_across_two_columns():
    assert nearest(seen({("c", "x")}, cells=FEWEST - 1), ("c", "x")) is None
    table = pd.DataFrame([("a", "control"), ("b", "x")], columns=["type", "drug"])
    assert nearest(Seen(table, np.full(2, 50), np.zeros((2, 2), np.float32)), ("b", "control")) is None


def test_rows_never_seen_are_told_the_start_and_moved_the_others_stay():
    begin = start_of(model(seen({("c", "x")})), asked(("a", "x"), ("c", "x"), ("c", keys.MASK)))
    assert begin.obs["drug"].tolist() == ["x", "control", keys.MASK]
    assert begin.obs["type"].tolist() == ["a", "c", "c"]
    np.testing.assert_allclose(begin.shift, [[0, 0], [1, 2], [0, 0]], atol=1e-6)
    assert begin.about == ["type=c, drug=x: from drug=control, moved as in 2 others"]


@pytest.mark.parametrize(
    "one", [model(None), model(seen({("c", "x")}), "told"), model(seen({("b", "x")}))], ids=["whole", "told", "seen"]
)
def test_what_was_seen_or_is_to_be_told_is_asked_as_it_is(one):
    wanted = asked(("a", "x"), ("c", "x"))
    begin = start_of(one, wanted)
    assert begin.obs is wanted
    assert begin.shift is None


def test_a_checkpoint_keeps_what_was_seen():
    known = seen({("c", "x")}, bend=0.5)
    again = Seen.from_dict(known.to_dict())
    pd.testing.assert_frame_equal(again.table, known.table)
    np.testing.assert_array_equal(again.mean, known.mean)
    assert again.has(("a", "x"))
    assert not again.has(("c", "x"))
