import math
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from scsave.errors import UserError
from scsave.metrics.registry import REGISTRY
from scsave.results.figures import draw_run
from scsave.results.frame import cost_rows, read
from scsave.results.style import formats
from scsave.results.sweeps import SWEEPS, curves, draw_sweep, draw_time, metrics_of

from .written import write

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

W1 = REGISTRY["generation/w1"]


def guided(folder, weights=(1.0, 2.0), seeds=(0, 1), **config):
    for w in weights:
        for seed in seeds:
            metrics = {"save": {"w1": w + 2 * seed, "recall": 0.5}, "real": {"w1": 0.5 + seed}}
            name = f"{w}-{seed}-{'-'.join(map(str, config.values()))}"
            settings = {"sampling.guidance": w} | config
            write(folder / name, metrics, seed=seed, split_hash=f"{seed:064x}", config=settings)


def inked(path) -> float:
    """Share of a picture that is not white."""
    picture = matplotlib.image.imread(path)[..., :3]
    return float((picture.min(axis=-1) < 0.95).mean())


def test_runs_that_differ_in_one_setting_are_a_line(tmp_path):
    guided(tmp_path, (2.0, 1.0, 0.5))
    (found,) = curves(read([tmp_path]), "sampling.guidance", [W1, cost_rows("generation")["train_minutes"]])
    assert found.lines["series"].unique().tolist() == ["save"]
    points = found.lines[found.lines["metric"] == "w1"].groupby("x")["value"].agg(["mean", "std"])
    assert points.index.tolist() == [0.5, 1.0, 2.0]
    assert points["mean"].tolist() == [1.5, 2.0, 3.0]
    np.testing.assert_allclose(points["std"], math.sqrt(2))
    assert found.floors == {("real", "w1"): 1.0}  # no ceiling, and no floor of a cost
    assert found.lines.loc[found.lines["metric"] == "train_minutes", "value"].tolist() == [1.0] * 6


def test_another_setting_is_another_line_and_one_value_is_none(tmp_path):
    guided(tmp_path)
    guided(tmp_path, **{"training.lr": 0.1})
    guided(tmp_path, (1.0,), **{"training.lr": 0.5})
    (found,) = curves(read([tmp_path]), "sampling.guidance", [W1])
    assert sorted(found.lines["series"].unique()) == ["lr=0.1", "lr=null"]
    assert curves(read([tmp_path]), "blocking.block_size", [W1]) == []
    assert curves(read([tmp_path]), "blocking._target_", [W1]) == []


def test_other_splits_of_one_seed_are_no_line(tmp_path):
    write(tmp_path / "a", config={"sampling.guidance": 1.0})
    write(tmp_path / "b", config={"sampling.guidance": 2.0}, split_hash="cd" * 32)
    assert curves(read([tmp_path]), "sampling.guidance", [W1]) == []


def test_of_two_runs_of_one_seed_the_newer_counts(tmp_path):
    guided(tmp_path, seeds=(0,))
    again = {"split_hash": f"{0:064x}", "config": {"sampling.guidance": 1.0}, "written": "2027-01-01T00:00:00+00:00"}
    write(tmp_path / "again", {"save": {"w1": 9.0}, "real": {"w1": 0.5}}, **again)
    (found,) = curves(read([tmp_path]), "sampling.guidance", [W1])
    assert found.lines["value"].tolist() == [9.0, 2.0]


def test_panels_are_what_the_task_has():
    names = [row.name for row in metrics_of("generation", SWEEPS["block_size"].metrics)]
    assert names == ["w1", "mmd2_rbf", "c2st_auc", "train_minutes"]
    assert metrics_of("batch_correction", SWEEPS["block_size"].metrics)[0].name == "total"


def test_curves_are_drawn_as_png_and_pdf(tmp_path):
    guided(tmp_path / "runs")
    with formats(".pdf"):
        (path,) = draw_sweep(tmp_path / "out", "guidance", SWEEPS["guidance"], read([tmp_path / "runs"]))
    assert path.name == "guidance_generation_toy.png"
    assert 0.005 < inked(path) < 0.5
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".pdf", ".png"]
    assert draw_sweep(tmp_path / "out", "block_size", SWEEPS["block_size"], read([tmp_path / "runs"])) == []


def test_quality_against_time_needs_two_trained_methods(tmp_path):
    write(tmp_path / "a", cost={"seconds_fit": 60})
    assert draw_time(tmp_path / "out", read([tmp_path])) == []
    write(tmp_path / "b", {"scvi": {"w1": 3.0}}, method="scvi", cost={"seconds_fit": 6})
    (path,) = draw_time(tmp_path / "out", read([tmp_path]))
    assert path.name == "training_time_generation_toy.png"
    assert inked(path) > 0.005


def test_one_run_of_each_kind_is_shown(tmp_path):
    import make_figures

    for seed in (1, 0):
        write(tmp_path / f"s{seed}", seed=seed)
    write(tmp_path / "b", method="scvi")
    found = make_figures.first_of(read([tmp_path]), "older", ["task", "data", "experiment", "method"])
    assert sorted(zip(found["method"], found["seed"], strict=True)) == [("save", 0), ("scvi", 0)]
    write(tmp_path / "more", seed=2, cost={"cells_seen": 9}, experiment_name="ablation/x")
    write(tmp_path / "unseen", split="unseen")
    found = make_figures.first_of(read([tmp_path]), "trained", ["data", "split", "method"])
    most = {(run.method, run.split): run.seed for run in found.itertuples()}
    assert most == {("save", "random"): 2, ("save", "unseen"): 0, ("scvi", "random"): 0}


def test_a_run_without_its_cells_is_named(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(UserError, match=r"generated.h5ad: not there; run it again: python train.py data=toy"):
        draw_run(tmp_path / "a")


def test_the_script_draws_what_it_can_and_names_the_rest(tmp_path, capsys):
    import make_figures

    guided(tmp_path / "runs")
    make_figures.run([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert "guidance_generation_toy.png (and .pdf)" in told.out
    assert "skipped: block_size: needs runs that differ in blocking.block_size alone" in told.out
    assert "skipped: cells: needs a generation run" in told.out
    assert "generated.h5ad: not there" in told.err
    with pytest.raises(UserError, match="no such figure; there are: guidance"):
        make_figures.run([str(tmp_path / "runs"), "--only", "umaps"])
    with pytest.raises(UserError, match=r"no fitting results.json there"):
        make_figures.run([str(tmp_path / "runs"), "--data", "other"])
