"""The accuracy to expect of a prediction, from training strata held out."""

import math

import numpy as np
import pytest
from scipy import stats

from scsave.stats.expected import expected_accuracy, said, trust_table, unknown


def trust_of(scores, distances=None):
    distances = [1.0] * len(scores) if distances is None else distances
    return {str(k): {"pcc": s, "distance": d} for k, (s, d) in enumerate(zip(scores, distances, strict=True))}


def test_below_three_strata_nothing_is_expected():
    assert expected_accuracy({}) is None
    assert expected_accuracy(trust_of([0.8, 0.9])) is None
    assert expected_accuracy(trust_of([0.8, 0.9, math.nan])) is None


def test_the_interval_is_student_s_for_one_new_observation():
    scores = [0.6, 0.7, 0.8, 0.9]
    found, y = expected_accuracy(trust_of(scores)), np.arctanh(scores)
    reach = stats.t.ppf(0.9, 3) * y.std(ddof=1) * math.sqrt(1 + 1 / 4)
    assert found["expected_pcc"] == pytest.approx(np.tanh(y.mean()))
    assert found["low"] == pytest.approx(np.tanh(y.mean() - reach))
    assert found["high"] == pytest.approx(np.tanh(y.mean() + reach))
    assert found["held_out"] == 4


def test_the_interval_widens_with_the_spread_of_the_scores():
    narrow, wide = (expected_accuracy(trust_of(s)) for s in ([0.78, 0.8, 0.82], [0.5, 0.8, 0.95]))
    assert wide["high"] - wide["low"] > 3 * (narrow["high"] - narrow["low"])


def test_six_strata_and_a_distance_make_a_regression_that_does_not_extrapolate():
    distances = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
    scores = np.tanh(1.5 - 0.4 * np.log(distances))
    trust = trust_of(scores.tolist(), distances.tolist())
    for at in distances:
        assert expected_accuracy(trust, at)["expected_pcc"] == pytest.approx(np.tanh(1.5 - 0.4 * math.log(at)))
    assert expected_accuracy(trust, 100.0)["expected_pcc"] == pytest.approx(
        expected_accuracy(trust, 8.0)["expected_pcc"]
    )
    assert expected_accuracy(trust)["expected_pcc"] == pytest.approx(np.tanh(np.arctanh(scores).mean()))
    assert expected_accuracy(trust_of([0.5] * 6, [2.0] * 6), 3.0)["expected_pcc"] == pytest.approx(
        0.5
    )  # no line at all
    five = trust_of(scores[:5].tolist(), distances[:5].tolist())
    assert expected_accuracy(five, 1.0) == expected_accuracy(five)


def test_a_table_says_what_is_known_and_what_is_not():
    known = expected_accuracy(trust_of([0.6, 0.7, 0.8]))
    table = trust_table({"B": known, "NK": unknown()}, {"NK": "extrapolated"})
    assert list(table.index) == ["B", "NK"]
    assert table.loc["B", "low"] < table.loc["B", "expected_pcc"] < table.loc["B", "high"]
    assert math.isnan(table.loc["NK", "expected_pcc"])
    assert list(table["note"]) == ["", "extrapolated"]
    assert "expected change-PCC 0.71 (80% interval" in said(table.loc["B"])
    assert "no accuracy can be expected" in said(table.loc["NK"])
