import numpy as np

from scsave.files import slug
from scsave.protocol import Outcome
from scsave.runs.folds import Fold, merged_record, read_fold, time_left, write_fold


def test_a_fold_comes_back_as_it_was(tmp_path):
    scores = {"save": {"all": {"pcc": 0.5, "w1": float("nan")}}}
    outcome = Outcome(scores=scores, info={"n": 3}, validation={"pcc": 0.1}, arrays={"delta": np.arange(3.0)})
    write_fold(tmp_path / "a", Fold(outcome, {"split_hash": "x", "cost": {"steps": 2}}))
    found = read_fold(tmp_path / "a")
    assert found.outcome.scores["save"]["all"]["pcc"] == 0.5
    assert np.isnan(found.outcome.scores["save"]["all"]["w1"])
    assert (found.outcome.arrays["delta"] == np.arange(3)).all()
    assert found.record == {"split_hash": "x", "cost": {"steps": 2}}
    assert found.outcome.validation == {"pcc": 0.1}
    assert read_fold(tmp_path / "b") is None


def test_a_fold_without_its_scores_is_not_done(tmp_path):
    write_fold(tmp_path, Fold(Outcome(scores={}), {}))
    (tmp_path / "fold.json").unlink()
    assert read_fold(tmp_path) is None


def test_costs_add_up_and_peaks_do_not():
    cost = [{"steps": 5, "parameters": 10, "peak_rss_mb": 3.0, "cells_per_second_fit": 7.0, "note": "a"}, {"steps": 6}]
    records = [{"split_hash": h, "genes": g, "cost": c} for h, g, c in zip("ab", (9, 8), cost, strict=True)]
    merged = merged_record(records)
    expected = {"steps": 11, "parameters": 10, "peak_rss_mb": 3.0, "cells_per_second_fit": 7.0, "note": "a"}
    assert merged["cost"] == expected
    assert merged["genes"] == 9
    assert merged["split_hash"] not in ("a", "b")
    assert merged_record(records[:1])["split_hash"] == "a"


def test_folder_names_are_safe_and_apart():
    assert slug("KLF1+BAK1") == "KLF1+BAK1"
    assert slug("B Activated").startswith("B_Activated-")
    assert slug("a/b") != slug("a b")
    assert time_left(0.0, 0, 5) == ""
