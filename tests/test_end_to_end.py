"""Whole runs: the same numbers from the same seed, resume equals never stopped, a checkpoint is enough, learning works."""

import json
import shutil
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from omegaconf import OmegaConf

from scsave import SAVE, keys
from scsave.errors import UserError
from scsave.method.method import SaveMethod
from scsave.metrics.integration import IntegrationScorer
from scsave.metrics.registry import rows
from scsave.runs.run import run
from scsave.training.callbacks import GracefulStop

from .conftest import CELLS, results, scores

SCORED = ["trainer.limit_steps=30", "blocking=coexpression"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("end_to_end")


@pytest.fixture
def trained(tiny, outputs, tmp_path):
    """A copy of a run that is made once."""
    if not (outputs / "run").exists():
        run(tiny(*SCORED), outputs / "run")
    return shutil.copytree(outputs / "run", tmp_path / "run")


@pytest.mark.slow
def test_figures_are_drawn(tiny, tmp_path):
    run(tiny(*SCORED, "figures=true"), tmp_path / "run")
    assert {p.name for p in (scores(tmp_path / "run") / "figures").iterdir()} == {
        "umap.png",
        "genes.png",
        "violins.png",
        "loss.png",
    }


def test_a_run_leaves_everything_a_reader_needs(trained):
    found = {str(p.relative_to(trained)) for p in trained.rglob("*") if p.is_file()}
    assert {"config.yaml", "split.csv", "trained_on.json", "checkpoints/model.ckpt"} <= found
    assert (scores(trained) / "generated.h5ad").is_file()
    got = results(trained)
    assert set(got["metrics"]) == {"mean", "real", "save", "train_resample"}
    assert got["metrics"]["real"]["all"]["w1"] > 0
    assert got["protocols"] == {}
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
    assert {"config_hash", "training_hash", "split_hash", "seed", "device", "versions", "git_commit"} <= set(got)
    cells = anndata.read_h5ad(scores(trained) / "generated.h5ad")
    assert (cells.layers[keys.COUNTS].data == np.round(cells.layers[keys.COUNTS].data)).all()
    np.testing.assert_allclose(
        cells.X.toarray(),
        np.log1p(cells.layers[keys.COUNTS].toarray() / cells.obs[keys.LIBRARY].to_numpy()[:, None] * 1e4),
        rtol=1e-4,
    )


def test_the_protocols_of_the_literature_are_scored_where_they_are_asked_for(tiny, tmp_path):
    run(tiny("task.protocols=all", "method=pca_gaussian"), tmp_path / "run")
    assert set(results(tmp_path / "run")["protocols"]) == {"cfgen", "cfgen_legacy"}


def test_same_seed_same_numbers_other_seed_others(trained, tiny, tmp_path):
    run(tiny(*SCORED), tmp_path / "again")
    run(tiny(*SCORED, "seed=1"), tmp_path / "other")
    first, again, other = (results(p)["metrics"] for p in (trained, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first["save"] != other["save"]


def test_a_finished_run_is_not_trained_again_but_by_force(trained, tiny, monkeypatch, capsys):
    fitted, fit = [], SaveMethod.fit
    monkeypatch.setattr(SaveMethod, "fit", lambda self, *a, **k: fitted.append(1) or fit(self, *a, **k))
    before = (scores(trained) / "results.json").read_text()
    run(tiny(*SCORED), trained)
    said = capsys.readouterr().out
    assert f"done before, nothing was trained: {scores(trained) / 'results.json'}" in said
    assert "verdict: save is " in said
    assert not fitted
    assert (scores(trained) / "results.json").read_text() == before
    # another way of sampling has scores of its own, of the same weights
    run(tiny(*SCORED, "sampling.solver.steps=2"), trained)
    assert not fitted
    found = [json.loads(path.read_text()) for path in trained.glob("scores/*/results.json")]
    assert len(found) == len({one["config_hash"] for one in found}) == 2
    assert len({one["training_hash"] for one in found}) == 1
    run(tiny(*SCORED, "force=true"), trained)
    assert len(fitted) == 1
    assert json.loads(before)["metrics"] in [
        json.loads(path.read_text())["metrics"] for path in trained.glob("scores/*/results.json")
    ]


def test_a_checkpoint_generates_without_the_data(trained, tiny, tmp_path, capsys):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained / "checkpoints", moved)
    model = SAVE.load(moved)
    a, b = (model.generate(20, {"cell_type": "type_A"}, seed=3) for _ in range(2))
    assert (a.X != b.X).nnz == 0
    assert list(a.obs["cell_type"].unique()) == ["type_A"]
    assert set(a.obs["batch"]) <= {"batch_1", "batch_2"}  # a technical column is drawn as training cells have it
    assert a.obs["treatment"].isna().all()  # not told
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


def test_using_a_model_imports_nothing_that_only_training_needs(trained):
    code = (
        "import sys; from scsave import SAVE; SAVE.load(sys.argv[1]).generate(3); "
        "print({'lightning', 'scanpy', 'jax', 'matplotlib', 'numba', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(trained)], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "set()", done


def test_evaluate_gives_the_numbers_of_the_run(trained, tiny, tmp_path):
    before = results(trained)
    (scores(trained) / "results.json").unlink()
    run(tiny("mode=evaluate", f"ckpt={trained}"), tmp_path / "ignored")
    assert results(trained)["metrics"] == before["metrics"]
    assert results(trained)["split_hash"] == before["split_hash"]
    assert not (tmp_path / "ignored").exists()


def test_a_run_of_one_task_serves_another_with_the_part_that_it_lacks(trained, tiny, tmp_path, monkeypatch):
    """A run of generation has no integration head and no flow from cells: both are trained, the rest stays."""
    nothing = dict.fromkeys(rows("batch_correction"), 0.0)
    monkeypatch.setattr(
        IntegrationScorer,
        "score",
        lambda self, found, _=None: {name: {keys.ALL: nothing} for name in ("unintegrated", *found)},
    )
    before = SAVE.load(trained).model
    assert before.info["parts"] == ["autoencoder", "noise"]
    run(tiny("mode=evaluate", f"ckpt={trained}", "task=batch_correction", "trainer.limit_steps=30"), tmp_path / "x")
    after = SAVE.load(trained).model
    assert after.info["parts"] == ["autoencoder", "head", "noise"]
    for name, value in before.network.state_dict().items():
        assert torch.equal(value, after.network.state_dict()[name]) or name.startswith("head."), name
    (folder,) = trained.glob("scores/batch_correction-*")
    cells = anndata.read_h5ad(folder / "integrated.h5ad")
    assert np.isfinite(cells.obsm[keys.LATENT]).all()
    run(tiny("mode=evaluate", f"ckpt={trained}", "task=perturbation", "task.min_cells=40"), tmp_path / "x")
    found = SAVE.load(trained).model
    assert found.info["parts"] == ["autoencoder", "cells", "head", "noise"]
    velocity = [name for name in after.network.state_dict() if name.startswith("velocity.")]
    old, new = (one.network.state_dict() for one in (after, found))
    assert any(not torch.equal(old[name], new[name]) for name in velocity)  # it did learn


def test_a_run_is_refused_on_a_changed_file(tiny, tmp_path):
    """Cells that it was trained on would become test cells."""
    rng = np.random.default_rng(0)
    cells = AnnData(rng.poisson(2.0, (120, 48)).astype(np.float32))
    cells.obs["kind"] = list("ab") * 60
    cells.write_h5ad(tmp_path / "mine.h5ad")
    own = ["data=h5ad", f"data.path={tmp_path}/mine.h5ad", "data.conditions=[kind]", "data.cell_type_key=kind"]
    run(tiny(cells=[*own, "blocking=random"]), tmp_path / "run")
    before = results(tmp_path / "run")["metrics"]
    run(tiny("mode=evaluate", f"ckpt={tmp_path}/run"), tmp_path / "x")
    assert results(tmp_path / "run")["metrics"] == before
    fewer = cells[:100].copy()
    for changed in (fewer, AnnData(rng.permutation(cells.X), cells.obs)):
        changed.write_h5ad(tmp_path / "mine.h5ad")
        with pytest.raises(UserError, match=r"split.csv|were trained on other data") as caught:
            run(tiny("mode=evaluate", f"ckpt={tmp_path}/run"), tmp_path / "x")
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="were trained on other data"):  # nor is it said to be done
            run(tiny(cells=[*own, "blocking=random"]), tmp_path / "run")


@pytest.mark.parametrize("training", ["two_stage", "joint"])
@pytest.mark.parametrize("stop_at", [2, 17])
def test_resume_equals_never_stopped(training, stop_at, tiny, outputs, tmp_path, monkeypatch):
    overrides = [*SCORED, f"training={training}", "training.val_every=10"]
    whole, parts = outputs / f"whole_{training}", tmp_path / "parts"
    if not whole.exists():
        run(tiny(*overrides), whole)

    def stop_early(self, trainer, stage, *args):
        if trainer.global_step == stop_at and stage.name != "autoencoder":
            self.stopped = True
            trainer.should_stop = True

    with monkeypatch.context() as patch:
        patch.setattr(GracefulStop, "on_train_batch_end", stop_early)
        with pytest.raises(KeyboardInterrupt, match=f"resume={parts}"):
            run(tiny(*overrides), parts)
    assert not list(parts.rglob("results.json"))
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


def test_the_split_of_a_run_names_every_cell(trained):
    table = pd.read_csv(trained / "split.csv", index_col="cell")
    assert len(table) == int(next(one for one in CELLS if "n_cells" in one).split("=")[1])
    assert {"train", "val", "test"} == {group.split("/")[0] for group in table["group"]}


@pytest.mark.slow
def test_held_out_combinations_are_predicted_better_than_by_the_mean(composed, tmp_path):
    """Known truth: on simulated cells, the mean of each combination never seen in training is recovered."""
    cfg = composed(
        "data=simulated", "data.n_cells=1500", "data.n_genes=120", "split=unseen", "split.fraction=0.2",
        "blocking=coexpression", "training.autoencoder_steps=400", "training.flow_steps=800", "figures=false",
    )  # fmt: skip
    run(cfg, tmp_path / "run")
    cells = anndata.read_h5ad(scores(tmp_path / "run") / "generated.h5ad")
    found = results(tmp_path / "run")["metrics"]
    assert found["save"]["all"]["energy"] < found["mean"]["all"]["energy"]
    assert found["save"]["all"]["gene_mean_pearson"] > 0.97
    assert cells.n_obs > 50
