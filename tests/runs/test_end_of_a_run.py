"""What a run says when it ends: what was made, where, the verdict; and a sweep: one table of all its jobs."""

import json
import os
import re
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from scsave.files import relative
from scsave.results.frame import read
from scsave.results.table_text import in_short
from scsave.results.tables import make_table
from scsave.runs.console import made, print_trust
from scsave.runs.run import run
from scsave.runs.serve import reached_before
from scsave.runs.sweep_end import OneTable, done
from tests.conftest import scores
from tests.results.written import write

FLOOR = {"real": {"w1": 1.0, "c2st_auc": 0.52}, "mean": {"w1": 0.8, "c2st_auc": 0.99}}


def said(folder, own):
    runs = read([write(folder, FLOOR | {"save": own})])
    return in_short(make_table(runs, metrics=["w1", "c2st_auc"]), "save")


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (
            {"w1": 2.0, "c2st_auc": 0.6},
            "save is better than no skill in 1 of 2 metrics (not in W1); at or beyond the noise floor in none",
        ),
        (
            {"w1": 0.5, "c2st_auc": 0.52},
            "save is better than no skill in 2 of 2 metrics; at or beyond the noise floor in 2: W1, C2ST AUC",
        ),
        (
            {"w1": 0.8, "c2st_auc": 1.0},
            "save is better than no skill in 0 of 2 metrics; at or beyond the noise floor in 1: W1",
        ),
        ({"w1": 0.9}, "save is better than no skill in 0 of 1 metrics; at or beyond the noise floor in 1: W1"),
    ],
)
def test_the_verdict_is_counted_from_the_numbers(tmp_path, own, sentence):
    assert said(tmp_path, own) == sentence


def test_no_verdict_without_rows_to_be_read_against(tmp_path):
    runs = read([write(tmp_path, {"save": {"w1": 2.0}})])
    assert in_short(make_table(runs), "save") == ""


def test_a_run_says_what_it_made_and_where_relative(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(tiny("method=pca_gaussian"), tmp_path / "runs" / "one")
    out = capsys.readouterr().out
    assert re.search(r"^verdict: pca_gaussian is better than no skill in \d of \d metrics", out, re.MULTILINE)
    assert "made: generated.h5ad, results.json\n" in out
    assert f"where: {scores(tmp_path / 'runs' / 'one').relative_to(tmp_path)}\n" in out
    run(tiny("method=pca_gaussian", "experiment_name=ablation/x"), tmp_path / "runs" / "one")
    assert "done before, nothing was trained: runs/one/scores/" in capsys.readouterr().out
    assert list(read([tmp_path], experiment="ablation/x")["method"]) == ["pca_gaussian"]


def test_of_models_of_folds_the_first_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("folds/A/checkpoints", "folds/B/checkpoints", "scores/task-0"):
        (tmp_path / "run" / part).mkdir(parents=True)
    assert made(tmp_path / "run" / "scores" / "task-0").endswith("\nmodel: ckpt=run/folds/A (of 2 folds)")


def test_paths_elsewhere_stay_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(relative(tmp_path / "a" / "b")) == "a/b"
    assert str(relative("a")) == "a"
    assert str(relative("/elsewhere/a")) == "/elsewhere/a"


def test_a_sweep_ends_with_one_table_of_all_its_jobs(tmp_path, capsys):
    config = OmegaConf.create({"paths": {"outputs": str(tmp_path)}})
    callback = OneTable()
    callback.on_multirun_start(config)
    for method in ("save", "pca_gaussian"):
        done(write(tmp_path / method, FLOOR | {method: {"w1": 2.0}}, method=method))
    done(tmp_path / "save" / "results.json")  # a job twice
    callback.on_multirun_end(config)
    out = capsys.readouterr().out
    assert out.count("all 2 runs: generation on toy") == 1
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert {"save", "pca_gaussian", "real (noise floor)"} <= set(rows)
    assert len(rows) == len(set(rows))
    assert not list(tmp_path.glob(".sweep*"))
    assert "SCSAVE_SWEEP" not in os.environ


def test_a_sweep_of_one_has_its_table_already(tmp_path, capsys):
    config, callback = OmegaConf.create({"paths": {"outputs": str(tmp_path)}}), OneTable()
    callback.on_multirun_start(config)
    done(write(tmp_path / "one"))
    callback.on_multirun_end(config)
    done(tmp_path / "later.json")  # outside of a sweep: nothing is kept
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "one" / "results.json").read_text())["method"] == "save"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def trust_of(*reached):
    one = {"expected_pcc": 0.8, "low": 0.65, "high": 0.95, "held_out": 9}
    return {f"type_{n}": one | {"reached": value} for n, value in enumerate(reached)}


def test_few_predictions_are_said_one_by_one_with_what_their_accuracy_is_worth(capsys):
    print_trust(trust_of(0.7, 0.6))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("training strata held out in turn): good, may be fair to very good, reached 0.70")
    assert lines[1:][-1] == "the 80% interval holds what was reached in 1 of 2 predictions"


def test_of_many_predictions_there_are_medians_and_the_ends(capsys):
    print_trust(trust_of(0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, float("nan")))
    first, *shown, last = capsys.readouterr().out.splitlines()
    assert first.startswith("8 predictions: expected change-PCC 0.80, reached 0.60 (medians)")
    assert "info.trust of results.json" in first
    assert [line.partition(":")[0] for line in shown] == ["type_7", "type_0", "type_2", "type_5", "type_3", "type_1"]
    assert last == "the 80% interval holds what was reached in 3 of 8 predictions"


def test_what_the_run_behind_a_checkpoint_reached_is_said_beside_a_row_without_a_network(tmp_path):
    def before(route=None):
        return reached_before(SimpleNamespace(ckpt=str(tmp_path / "folds" / "B"), route=route))

    assert before() == ""
    pcc = {"save": 0.92, "combined": 0.93, "gene_slope": 0.8, "type_process": 0.6, "ceiling": None}
    metrics = {row: {"pcc_delta_one_control": value} for row, value in pcc.items()}
    write(tmp_path / "scores" / "perturbation-a", metrics, task="perturbation", registry="response")
    said = (
        "on what the run behind this model held out, {} reached a change-PCC of {}, very good, and type_process, which"
    )
    assert before() == before("between") == said.format("save", "0.92") + " trains no network, 0.60"
    assert before("combined").startswith(said.format("combined", "0.93"))
    (tmp_path / "scores" / "perturbation-a" / "results.json").write_text("{")
    assert before() == ""
