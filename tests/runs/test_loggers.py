"""logger=wandb without an account: what the files of an offline run say, read back."""

import json
import re

import numpy as np
import pytest
from matplotlib.image import imsave

from scsave.runs.naming import scores_folder
from scsave.runs.run import run

from ..conftest import CELLS, NETWORK, results
from ..test_cli import train
from .wandb_file import offline_runs

WANDB = ["logger=wandb", "logger.offline=true", "trainer.log_every=1"]


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nothing"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_a_run_and_its_resumption_are_one_wandb_run(tiny, tmp_path, monkeypatch, stopped_in_flow):
    folder = tmp_path / "run"
    cfg = tiny(*WANDB, "sweep_metric=energy", "logger.tags=[mine]", "experiment_name=paper/x")
    stopped_in_flow(cfg, folder)
    imsave(_made(scores_folder(folder, cfg) / "figures") / "umap.png", np.zeros((4, 4)))
    run(tiny(*WANDB, f"resume={folder}"), tmp_path / "ignored")

    first, second = offline_runs(folder)
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert first.run.run_id == second.run.run_id
    for one in (first, second):
        assert one.run.run_group == "paper/x"
        assert {"generation", "simulated", "save"} <= set(one.run.tags)
        assert one.config["backbone"]["width"] == 16
        assert one.run.entity == ""
    assert "mine" in first.run.tags

    assert [step for step, _ in first.curve("autoencoder/train_loss")] == [0, 1, 2, 3]
    steps = [step for one in (first, second) for step, _ in one.curve("flow/train_loss")]
    assert steps == [0, 1, 2, 3]  # the stage counts its own steps, and none twice
    assert not second.curve("autoencoder/train_loss")

    got = results(folder)
    assert second.last("test/w1") == pytest.approx(got["metrics"]["save"]["all"]["w1"])
    assert second.last("validation/energy") == pytest.approx(got["validation"]["energy"])
    table = json.loads((second.folder / "files" / second.last("results.path")).read_text())
    assert table["columns"][:3] == ["metric", "best", "save"]
    assert set(table["columns"][2:]) == set(got["metrics"])
    (row,) = [row for row in table["data"] if row[0] == "w1"]
    assert row[2:] == [got["metrics"][name]["all"]["w1"] for name in table["columns"][2:]]
    assert (second.folder / "files" / second.last("figures/umap.path")).is_file()


def test_folds_share_a_run_and_jobs_do_not(tiny, tmp_path):
    folds = ["task=perturbation", "task.min_cells=60"]
    run(tiny(*WANDB, *folds, "data.n_types=2", "logger.project=mine"), tmp_path / "a")
    (one,) = offline_runs(tmp_path / "a")
    for name in ("type_A", "type_B"):
        assert len(one.curve(f"{name}-autoencoder/train_loss")) == 4
    assert (one.run.run_group, one.run.project) == ("perturbation/simulated", "mine")
    # the next job in this process, a baseline without any training, is another run
    run(tiny(*WANDB, "method=pca_gaussian"), tmp_path / "b")
    (other,) = offline_runs(tmp_path / "b")
    assert other.run.run_id != one.run.run_id
    assert "pca_gaussian" in other.run.tags
    assert other.last("test/w1") > 0


@pytest.mark.slow
def test_without_an_account_the_mistake_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    # in a process of its own: wandb keeps the mode that another test has set
    done = train(*CELLS, *NETWORK, "logger=wandb", "method=pca_gaussian", f"paths.outputs={tmp_path}")
    assert done.returncode == 2
    assert re.search(r"error: logger=wandb: .*logger.offline=true needs no account", done.stderr)
    assert "Traceback" not in done.stderr


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder
