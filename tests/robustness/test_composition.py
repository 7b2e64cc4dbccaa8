"""Depth and batches that differ between control and perturbed cells: said, shown in tables, balanced by the scorer."""

import logging

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.data.preprocess import prepared
from scsave.data.splits.split import make_split
from scsave.keys import Columns
from scsave.metrics.response import ResponseScorer
from scsave.metrics.technical import DEPTH, apart, balanced, depth_factor
from scsave.results.frame import depth_of
from scsave.tasks.base import held_cells


def some(n: int, library: float = 1000.0, batches: dict[str, int] | None = None, seed: int = 0) -> AnnData:
    """Prepared cells of 20 genes; the first gene marks batch `b`."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(list(batches or {"a": n}), list((batches or {"a": n}).values()))
    rate = np.full((n, 20), library / 20)
    rate[batch == "b", 0] *= 8
    counts = rng.poisson(rate).astype(np.float32)
    obs = pd.DataFrame({"batch": batch}, index=[f"{seed}-{i}" for i in range(n)])
    obs[keys.LIBRARY] = counts.sum(1).astype(float)
    return prepared(sp.csr_matrix(counts), obs, pd.DataFrame(index=[f"G{g}" for g in range(20)]), {})


@pytest.mark.parametrize(
    ("library", "expected", "said"), [(1000, 1, False), (1400, 1.4, False), (3000, 3, True), (400, 0.4, True)]
)
def test_a_difference_of_depth_is_measured_and_said(caplog, library, expected, said):
    with caplog.at_level(logging.WARNING, "scsave"):
        found = depth_factor(some(80), some(80, library, seed=1), "T cells")
    assert found == pytest.approx(expected, rel=0.05)
    assert apart(found) == said
    assert ("T cells: the median library of perturbed cells is" in caplog.text) == said


def test_the_scorer_records_the_depth_and_tables_find_the_furthest(caplog):
    scorer = ResponseScorer(some(60), some(60, seed=1), some(60, 3000, seed=2), n_components=3)
    assert scorer.info[DEPTH] == pytest.approx(3, rel=0.05)
    assert depth_of({"types": {"B": {DEPTH: 1.1}, "T": {DEPTH: 0.4}}}) == 0.4
    assert depth_of({DEPTH: 2.0}) == 2.0
    assert np.isnan(depth_of({}))


def test_batches_are_balanced_and_only_where_they_differ(caplog):
    control, alike = some(200, batches={"a": 150, "b": 50}), some(100, batches={"a": 70, "b": 30}, seed=1)
    assert balanced(control, alike, "batch", 0, "T") is control
    assert balanced(control, alike, None, 0, "T") is control
    other = some(100, batches={"a": 20, "b": 80}, seed=1)
    with caplog.at_level(logging.WARNING, "scsave"):
        found = balanced(control, other, "batch", 0, "T cells")
    assert found.obs["batch"].value_counts().to_dict() == {"b": 50, "a": 12}
    assert (
        "T cells: the shares of batch differ between control and perturbed cells (by 55% of the cells)" in caplog.text
    )
    assert "balanced, 62 of 200 control cells are used" in caplog.text
    assert list(found.obs_names) == list(balanced(control, other, "batch", 0, "T").obs_names)


def test_too_few_control_cells_are_left_as_they_are_and_that_is_said(caplog):
    control, other = some(60, batches={"a": 57, "b": 3}), some(100, batches={"a": 5, "b": 95}, seed=1)
    with caplog.at_level(logging.WARNING, "scsave"):
        assert balanced(control, other, "batch", 0, "T") is control
    assert "balanced there would be 3 control cells: part of the measured change may be batch" in caplog.text
    nested = some(100, batches={"c": 100}, seed=2)
    assert balanced(control, nested, "batch", 0, "T") is control


def test_a_batch_is_no_change_any_more():
    """Nothing is perturbed; cells under the target come from batch `b` mostly, whose first gene is eight times as high."""
    control, treated = some(400, batches={"a": 300, "b": 100}), some(200, batches={"a": 40, "b": 160}, seed=1)
    control.obs["state"], treated.obs["state"] = "ctrl", "stim"
    import anndata as ad

    data = ad.concat([control, treated])
    test = np.arange(400, 600)
    split = make_split({keys.TRAIN: np.arange(400), keys.TEST: test}, data.obs_names, "toy")
    columns = Columns("toy", ["state"], batch="batch", perturbation="state", control="ctrl")
    start, real, _ = held_cells(data, split, columns, keys.ALL, "stim")

    def change(cells: AnnData) -> float:
        return float(real.X[:, 0].mean() - cells.X[:, 0].mean())

    assert change(control) > 0.5
    assert abs(change(start)) < 0.1
