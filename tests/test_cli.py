"""The command line as a user meets it: in another process, from the repository's folder."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from scsave.errors import UserError
from scsave.runs.config import validated
from scsave.runs.main import remove_if_empty, run_dir

from .conftest import CELLS, NETWORK, ROOT, clean_environment


def train(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess:
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=timeout)


def one_line_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_is_quick_and_imports_nothing_heavy():
    started = time.process_time()
    done = train("--help")
    assert done.returncode == 0
    assert "mode=generate ckpt=<run dir>" in done.stdout
    assert "blocking:" in done.stdout
    assert time.process_time() - started < 3
    probe = "import sys; import train; print([m for m in ('torch', 'scanpy', 'jax', 'pandas') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True).stdout.strip() == "[]"
    )


def test_cfg_job_prints_the_resolved_config():
    done = train("--cfg", "job", "--resolve")
    assert done.returncode == 0
    assert "_target_: scsave.flow.paths.CFM" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=nothing"], "Could not find 'data/nothing'"),
        (["colour=red"], "colour: unknown key"),
        (["baseline=none"], "baseline: this is called method (baseline=none is method=save) now"),
        (["training.trust_steps=3"], "training.trust_steps: this is called training.cells_steps now"),
        (["figures=false", "-m", "data=nothing,none"], "Could not find 'data/nothing'"),
        (["method=mean_shift", "figures=false"], "method=mean_shift is for perturbation"),
        (["data=h5ad", "data.path=absent.h5ad", "data.conditions=[a]"], "absent.h5ad"),
        (["data.path=my.h5ad"], "data=h5ad for a file of your own, data=pbmc68k for a copy of that set"),
        (["mode=generate", "ckpt=nowhere"], "ckpt=nowhere: no such file or folder"),
        (["mode=predict", "ckpt=nowhere", "target={drug: X, dose: 10}"], "ckpt=nowhere: no such file or folder"),
    ],
)
def test_a_user_s_mistake_is_one_line_and_exit_code_2(arguments, words, tmp_path):
    assert words in one_line_of(train(*arguments, f"paths.outputs={tmp_path}"))


def test_a_file_with_a_missing_column_names_those_present(tmp_path):
    cells = AnnData(np.random.default_rng(0).poisson(1.0, (30, 20)).astype(np.float32))
    cells.obs["kind"] = ["a", "b"] * 15
    cells.write_h5ad(tmp_path / "my.h5ad")
    arguments = [
        "data=h5ad",
        f"data.path={tmp_path / 'my.h5ad'}",
        "data.conditions=[type]",
        f"paths.outputs={tmp_path}",
    ]
    line = one_line_of(train(*arguments))
    assert "type" in line
    assert "kind" in line
    assert [path.name for path in tmp_path.iterdir()] == ["my.h5ad"]  # a run that was refused leaves no folder


def test_control_cells_of_a_file_are_predicted_under_a_drug_and_its_dose(tmp_path):
    cells = [
        "data=simulated_doses", "data.n_cells=600", "data.n_genes=40", "data.n_types=3", "data.n_batches=1", "data.n_drugs=1",
        "data.doses=[1, 10]", "data.batch_key=null", "data.conditions=[cell_type, treatment, dose]", "task.min_cells=20",
    ]  # fmt: skip
    written = [f"paths.outputs={tmp_path}", f"paths.cache={tmp_path}/cache", "figures=false"]
    done = train("task=perturbation", "method=type_process", "task.hold_out=type_A", *cells, *written)
    assert done.returncode == 0, done.stderr
    assert "storing" not in done.stderr  # anndata, of its columns
    (ckpt,) = tmp_path.glob("perturbation/*/*/*/folds/type_A")
    rng = np.random.default_rng(0)
    control = AnnData(rng.poisson(2.0, (30, 40)).astype(np.float32))
    control.var_names, control.obs["cell_type"] = [f"GENE{g:05d}" for g in range(40)], ["mine"] * 30
    control.write_h5ad(tmp_path / "mine.h5ad")
    asked = ["mode=predict", f"ckpt={ckpt}", f"data.path={tmp_path / 'mine.h5ad'}", *written[:2]]
    done = train(*asked, "target={treatment: stimulated, dose: 10}", f"out={tmp_path / 'predicted'}")
    assert done.returncode == 0, done.stderr
    assert "mine under stimulated, dose=10: " in done.stdout
    assert "no column 'treatment', so every cell is taken as control" in done.stdout
    assert (tmp_path / "predicted" / "per_gene.csv").is_file()
    assert "target=drugs: no such combination of treatment, dose" in one_line_of(train(*asked, "target=drugs"))


def test_a_refused_run_takes_nothing_else_with_it(tmp_path):
    ours, theirs = tmp_path / "outputs" / "task" / "a", tmp_path / "outputs" / "task" / "b"
    for folder in (ours, theirs, tmp_path / "mine"):
        folder.mkdir(parents=True)
        (folder / "train.log").touch()
    (theirs / "notes.log").touch()
    for folder in (ours, theirs, tmp_path / "mine"):
        remove_if_empty(folder, tmp_path / "outputs")
    assert not ours.exists()
    assert len(list(theirs.iterdir())) == 2
    assert (tmp_path / "mine" / "train.log").is_file()  # not below outputs


def test_a_file_s_runs_are_called_as_the_file_is(composed):
    folders = [
        run_dir(composed("data=h5ad", f"data.path={path}", "data.conditions=[a]"))
        for path in ("one/lung.h5ad", "'two/gut, (v2).zarr'", "one/lung.h5ad")
    ]
    names = [folder.split("/")[1] for folder in folders]
    assert names == ["lung", "gut_v2", "lung"]
    assert folders[0] == folders[2]
    assert composed("data=h5ad").data.name == "h5ad"


def test_out_is_where_a_used_run_writes(composed, tmp_path):
    (tmp_path / "run").mkdir()
    asked = [f"ckpt={tmp_path}/run", f"out={tmp_path}/b"]
    assert run_dir(composed("mode=generate", *asked)) == "../b"
    assert run_dir(composed("mode=generate", asked[0])) == "../run/generate"
    with pytest.raises(UserError, match=r"out=.*is for mode=generate"):
        validated(composed("mode=evaluate", *asked))


def test_a_sweep_by_joblib_writes_a_folder_for_each_job(tmp_path):
    done = train(
        "-m", *CELLS, *NETWORK, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "trainer.limit_steps=1",
        f"paths.outputs={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(Path(tmp_path).rglob("results.json"))) == 2
