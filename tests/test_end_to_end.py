"""Whole runs: the same numbers from the same seed, resume equals never stopped, a checkpoint is enough, learning works."""

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from scsave import SAVE, keys
from scsave.errors import UserError
from scsave.runs.run import run
from scsave.training.callbacks import GracefulStop

SCORED = ["trainer.limit_steps=30", "blocking=coexpression"]


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def trained(tiny, tmp_path):
    run(tiny(*SCORED), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_figures_are_drawn(tiny, tmp_path):
    run(tiny(*SCORED, "figures=true"), tmp_path / "run")
    assert {p.name for p in (tmp_path / "run" / "figures").iterdir()} == {
        "umap.png",
        "genes.png",
        "violins.png",
        "loss.png",
    }


def test_a_run_leaves_everything_a_reader_needs(trained, tmp_path):
    found = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file()}
    assert {"config.yaml", "split.csv", "results.json", "generated.h5ad", "checkpoints/model.ckpt"} <= found
    got = results(trained)
    assert list(got["metrics"]) == ["mean", "real", "scsave", "train_resample"]
    assert got["metrics"]["real"]["all"]["w1"] > 0
    assert set(got["protocols"]) == {"cfgen", "cfgen_legacy"}
    for key in (
        "parameters",
        "steps",
        "cells_seen",
        "seconds_fit",
        "seconds_sample",
        "sampling_evaluations",
        "peak_rss_mb",
    ):
        assert got["cost"][key] > 0, key
    assert {"config_hash", "split_hash", "seed", "device", "versions", "git_commit"} <= set(got)
    cells = anndata.read_h5ad(trained / "generated.h5ad")
    assert (cells.layers[keys.COUNTS].data == np.round(cells.layers[keys.COUNTS].data)).all()
    np.testing.assert_allclose(
        cells.X.toarray(),
        np.log1p(cells.layers[keys.COUNTS].toarray() / cells.obs[keys.LIBRARY].to_numpy()[:, None] * 1e4),
        rtol=1e-4,
    )


def test_same_seed_same_numbers_other_seed_others(trained, tiny, tmp_path):
    run(tiny(*SCORED), tmp_path / "again")
    run(tiny(*SCORED, "seed=1"), tmp_path / "other")
    first, again, other = (results(p)["metrics"] for p in (trained, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first["scsave"] != other["scsave"]


def test_a_checkpoint_generates_without_the_data(trained, tiny, tmp_path, capsys):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained / "checkpoints", moved)
    model = SAVE.load(moved)
    a, b = (model.generate(20, {"cell_type": "type_A"}, seed=3) for _ in range(2))
    assert (a.X != b.X).nnz == 0
    assert list(a.obs["cell_type"].unique()) == ["type_A"]
    assert list(a.obs["batch"].unique()) == [keys.MASK]
    assert a.uns[keys.UNS]["what"] == "generated cells"
    with pytest.raises(UserError, match=r"condition='type_A': give \{column: level\}"):
        model.generate(5, "type_A")
    run(tiny("mode=generate", f"ckpt={trained}", "n=9", "condition={cell_type: type_B}"), tmp_path / "asked")
    cells = anndata.read_h5ad(tmp_path / "asked" / "generated.h5ad")
    assert cells.n_obs == 9
    assert list(cells.var_names) == model.genes
    assert "replaced" not in capsys.readouterr().out
    run(tiny("mode=generate", f"ckpt={trained}", "n=9"), tmp_path / "asked")
    assert "generated.h5ad: replaced; out=<folder> keeps both" in capsys.readouterr().out


def test_evaluate_gives_the_numbers_of_the_run(trained, tiny, tmp_path):
    run(tiny("mode=evaluate", f"ckpt={trained}"), tmp_path / "evaluated")
    assert results(tmp_path / "evaluated")["metrics"] == results(trained)["metrics"]


@pytest.mark.parametrize("training", ["two_stage", "joint"])
@pytest.mark.parametrize("stop_at", [2, 17])
def test_resume_equals_never_stopped(training, stop_at, tiny, tmp_path, monkeypatch):
    overrides = [*SCORED, f"training={training}", "training.val_every=10"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(tiny(*overrides), whole)

    def stop_early(self, trainer, stage, *args):
        if trainer.global_step == stop_at and stage.name != "autoencoder":
            self.stopped = True
            trainer.should_stop = True

    with monkeypatch.context() as patch:
        patch.setattr(GracefulStop, "on_train_batch_end", stop_early)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(*overrides), parts)
    assert not (parts / "results.json").exists()
    run(tiny(f"resume={parts}"), tmp_path / "ignored")
    a, b = (torch.load(p / "checkpoints/model.ckpt", weights_only=True)["state"] for p in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert results(whole)["metrics"] == results(parts)["metrics"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: shutil.rmtree(f / "checkpoints"), "expected a trained model at checkpoints/model.ckpt; found none"),
        (lambda f: (f / "checkpoints/model.ckpt").write_bytes(b"no"), "its sha256 is not the one in model.sha256"),
        (lambda f: (f / "checkpoints/model.ckpt").unlink(), "go on with resume="),
    ],
)
def test_a_damaged_run_directory_is_named(damage, words, trained):
    damage(trained)
    with pytest.raises(UserError, match=words):
        SAVE.load(trained)


def test_what_a_checkpoint_does_not_know_is_named(trained):
    model = SAVE.load(trained)
    for condition, words in (
        ({"colour": "red"}, "condition names colour; the model's conditions are: cell_type, batch, treatment"),
        ({"cell_type": "type_9"}, "knows no level 'type_9'; it knows: type_A, type_B, type_C"),
    ):
        with pytest.raises(UserError, match=words):
            model.generate(3, condition)
    with pytest.raises(UserError, match="n=0"):
        model.generate(0)


def test_config_is_stored_whole(trained):
    stored = OmegaConf.load(trained / "config.yaml")
    assert stored.backbone.width == 16
    assert stored.trainer.limit_steps == 30


@pytest.mark.slow
def test_held_out_combinations_are_predicted_better_than_by_the_mean(composed, tmp_path):
    """Known truth: on simulated cells, the mean of each combination never seen in training is recovered."""
    cfg = composed(
        "data=simulated", "data.n_cells=1500", "data.n_genes=120", "split=unseen", "split.fraction=0.2",
        "blocking=coexpression", "training.autoencoder_steps=400", "training.flow_steps=800", "figures=false",
    )  # fmt: skip
    run(cfg, tmp_path / "run")
    cells = anndata.read_h5ad(tmp_path / "run" / "generated.h5ad")
    scores = results(tmp_path / "run")["metrics"]
    assert scores["scsave"]["all"]["energy"] < scores["mean"]["all"]["energy"]
    assert scores["scsave"]["all"]["gene_mean_pearson"] > 0.97
    assert cells.n_obs > 50
