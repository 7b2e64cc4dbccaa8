import math
import subprocess
import sys

import pytest

from scsave.metrics.registry import PROTOCOLS, REGISTRY, Metric, checked, collect, rows

TASKS = {"generation", "batch_correction", "response", "genetic"}


def row(best):
    return Metric(
        name="m",
        task="response",
        label="M",
        space="s",
        formula="f",
        best=best,
        aggregate="mean",
        min_cells=1,
        description="d",
    )


@pytest.mark.parametrize("key", REGISTRY)
def test_rows_are_complete(key):
    one = REGISTRY[key]
    assert key == f"{one.task}/{one.name}"
    assert one.task in TASKS
    assert one.best in ("max", "min") or isinstance(one.best, float)
    assert one.aggregate in ("mean", "pooled")
    assert one.min_cells is None or one.min_cells >= 1
    assert set(one.protocols) <= set(PROTOCOLS)
    assert one.version >= 1
    assert all([one.label, one.space, one.formula, one.description])
    assert one.formula in one.footer
    assert one.arrow in one.footer


@pytest.mark.parametrize(("best", "arrow", "order"), [("max", "↑", "cba"), ("min", "↓", "abc"), (0.5, "→0.5", "bac")])
def test_direction(best, arrow, order):
    values = {"nan": math.nan, "a": 0.1, "none": None, "b": 0.6, "c": 1.0}
    assert row(best).arrow == arrow
    assert row(best).ranked(values) == [*order, "nan", "none"]


def test_better_is_strict_and_a_missing_value_never_wins():
    assert row("max").better(2, 1)
    assert not row("max").better(1, 1)
    assert row("min").better(1, 2)
    assert row(1.0).better(1.1, 0.8)
    assert row("max").better(0, math.nan)
    assert not row("max").better(math.nan, 0)
    assert not row("max").better(None, None)


def test_unknown_and_missing_metrics_are_refused():
    values = dict.fromkeys(rows("response"), 1)
    assert list(checked("response", values)) == list(rows("response"))
    with pytest.raises(ValueError, match="no registry row for \\['pcc_new'\\]"):
        checked("response", values | {"pcc_new": 1.0})
    del values["pcc"]
    with pytest.raises(ValueError, match="no value for \\['pcc'\\]"):
        checked("response", values)


def test_a_name_has_one_row_in_a_task():
    assert REGISTRY["response/w1"].task == "response"
    assert REGISTRY["generation/w1"].task == "generation"
    with pytest.raises(KeyError):
        REGISTRY["response/c2st_auc"]
    with pytest.raises(ValueError, match="response/m has two rows"):
        collect([row("max"), row("min")])


def test_reading_the_registry_imports_nothing_heavy():
    heavy = "'torch', 'scanpy', 'sklearn', 'jax', 'ot', 'anndata', 'pandas'"
    code = f"import sys, scsave.metrics.registry; print([m for m in ({heavy}) if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(("value", "expected"), [(0.2, 0), (0.8, 1), (0.5, 0.5), (0.1, -1 / 6), (1.1, 1.5)])
def test_dynamic_range(value, expected):
    assert row("max").dynamic_range(value, baseline=0.2, ceiling=0.8) == pytest.approx(expected)
    assert row("min").dynamic_range(-value, baseline=-0.2, ceiling=-0.8) == pytest.approx(expected)
    assert row(0.5).dynamic_range(0.7, baseline=0.9, ceiling=0.45) == pytest.approx(0.2 / 0.35)
    assert math.isnan(row("max").dynamic_range(value, 0.5, 0.5))
    assert math.isnan(row("max").dynamic_range(value, math.nan, 0.5))


@pytest.mark.parametrize(("best", "baseline", "ceiling"), [("max", 0.8, 0.2), ("min", 0.2, 0.8), (0.5, 0.6, 0.3)])
def test_a_ceiling_worse_than_the_baseline_leaves_no_range(best, baseline, ceiling):
    assert math.isnan(row(best).dynamic_range(0.7, baseline, ceiling))
    assert row(best).dynamic_range(baseline, ceiling, baseline) == pytest.approx(1)
