"""Sweeps: what they optimise never sees a test cell, what they search composes, and a search survives being killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import product

import numpy as np
import optuna
import pytest
import yaml
from hydra import compose, initialize_config_dir

from scsave import keys
from scsave.components import build
from scsave.data.preprocess import select_genes
from scsave.errors import UserError
from scsave.metrics.registry import rows
from scsave.protocol import Context
from scsave.runs.config import validated
from scsave.runs.folds import fit_options
from scsave.runs.main import one_line, register_resolvers
from scsave.runs.run import run
from scsave.runs.search import study_name, study_storage, tpe, trials_left

from ..conftest import CELLS, NETWORK, ROOT, clean_environment
from ..test_cli import train

GENES = ["data=simulated_perturbseq", "data.n_cells=1500", "data.n_genes=60", "data.n_targets=16", "data.n_doubles=12"]
TASKS = {
    "generation": ([], CELLS),
    "levels": (["task=perturbation", "method=type_process"], CELLS),
    "genes": (["task=perturbation", "task.perturbation_cells=30"], [*GENES, "blocking=random"]),
}


def context_of(cfg, folder) -> Context:
    """A fitted method and its cells, as a run hands them to its task."""
    config = validated(cfg)
    source = build(config.data, "data")
    task = build(config.task, "task").for_kind(source.roles.kind)
    cells, strategy = source.load(folder / "cache"), build(config.split, "split")
    if hasattr(strategy, "folds"):
        strategy = next(iter(strategy.folds(cells, source.roles).values()))
    split = strategy(cells, source.roles, config.seed)
    data = select_genes(cells, split.train, source.n_top_genes, source.min_cells)
    method = build(config.method, "method")
    options = fit_options(cfg, config, task, method, source.roles, data[split.train], folder)
    method.fit(data, split, source.roles, config.seed, options)
    return Context(data=data, columns=source.roles, split=split, method=method, folder=folder, seed=0)


def poisoned(context: Context, cells: np.ndarray) -> None:
    """Their counts, expression and library sizes become NaN."""
    held = np.zeros(context.data.n_obs, dtype=bool)
    held[cells] = True
    for matrix in (context.data.X, context.data.layers[keys.COUNTS]):
        matrix.data[np.repeat(held, np.diff(matrix.indptr))] = np.nan
    context.data.obs.loc[held, keys.LIBRARY] = np.nan


@pytest.mark.parametrize("name", TASKS)
def test_no_test_cell_enters_what_a_sweep_optimises(name, tiny, tmp_path):
    overrides, cells = TASKS[name]
    cfg = tiny(*overrides, cells=cells)
    context = context_of(cfg, tmp_path)
    task = build(validated(cfg).task, "task").for_kind(context.columns.kind)
    clean = task.validate(context)
    assert set(task.validation_metrics(context.method)) <= set(clean)
    assert any(np.isfinite(v) for v in clean.values())
    poisoned(context, context.split.test)
    assert task.validate(context) == pytest.approx(clean, nan_ok=True, rel=0)
    # and it does look at the cells that it is a score of
    poisoned(context, context.split.val if name != "levels" else context.split.train)
    assert score_or_refusal(task, context) != pytest.approx(clean, nan_ok=True, rel=0)


def score_or_refusal(task, context: Context) -> dict[str, float]:
    try:
        return task.validate(context)
    except (UserError, ValueError):  # a scorer that meets a NaN
        return {}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["sweep_metric=nothing"],
            "sweep_metric=nothing: task=generation has no such validation score; it has: w1, w2",
        ),
        (["task=batch_correction", "sweep_metric=w1"], "task=batch_correction has no validation score"),
        (["task=perturbation", "method=type_process", "sweep_metric=w1"], "it has: pcc, r2"),
        (["task=perturbation", "sweep_metric=pcc"], "method=save has no validation score for levels"),
        (["method=pca_gaussian", "split.val=0", "sweep_metric=w1"], "has 0 validation cells; raise split.val"),
        (["method=pca_gaussian", "split.val=0.05", "sweep_metric=c2st_auc"], "no value on the validation cells"),
    ],
)
def test_what_has_no_validation_score_is_named(overrides, words, tiny, tmp_path):
    with pytest.raises(UserError) as caught:
        run(tiny(*overrides), tmp_path / "run")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- configs ---
def whole(*overrides: str, outputs):
    """The composed config with Hydra's own part."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"paths.outputs={outputs}", *overrides], return_hydra_config=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs/sweep").glob("*.yaml")))
def test_sweeps_search_what_the_schema_takes_by_a_validation_metric(name, composed, tmp_path):
    cfg = whole(f"sweep={name}", outputs=tmp_path)
    assert cfg.sweep_metric in rows("generation")
    for key, values in cfg.hydra.sweeper.params.items():
        values = str(values)
        assert not key.startswith(("task.", "split.", "data.")), "a search may not choose what it is scored on"
        if name == "optuna_generation":
            values = values.partition("(")[2].replace("log, interval(", "").rstrip(")")
        values = values.split(",")
        for value in (values[0], values[-1]):
            validated(composed(f"sweep={name}", f"{key}={value.strip()}"))


def test_the_wandb_sweep_asks_for_what_a_run_logs(composed):
    sweep = yaml.safe_load((ROOT / "scripts/sweeps/wandb_generation.yaml").read_text())
    fixed = [part for part in sweep["command"] if not part.startswith("${")]
    ends = [p["values"] if "values" in p else [p["min"], p["max"]] for p in sweep["parameters"].values()]
    for values in list(product(*ends))[::43]:
        chosen = [f"{key}={value}" for key, value in zip(sweep["parameters"], values, strict=True)]
        cfg = composed(*fixed, *chosen)
        validated(cfg)
    assert sweep["metric"]["name"] == f"validation/{cfg.sweep_metric}"
    assert sweep["metric"]["goal"].startswith(rows("generation")[cfg.sweep_metric].best)
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"][-1] == "${args_no_hyphens}"


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_launchers_compose(name, tmp_path):
    cfg = whole(
        f"hydra/launcher={name}", "hydra.launcher.timeout_min=90" if name != "joblib" else "seed=0", outputs=tmp_path
    )
    assert name.split("_")[0] in cfg.hydra.launcher._target_


def test_an_extra_that_is_missing_is_one_line():
    from hydra.errors import MissingConfigException

    for option, extra in (("hydra/sweeper/optuna", "sweep"), ("hydra/launcher/ray", "ray")):
        error = MissingConfigException(f"In 'train': Could not find '{option}'\n\nAvailable options in ...", option)
        line = one_line(error)
        assert "\n" not in line
        assert line.endswith(f"make setup EXTRAS=dev,{extra}")


def test_a_job_that_slurm_starts_again_goes_on(tiny, tmp_path, monkeypatch, stopped_in_flow):
    folder = tmp_path / "run"
    stopped_in_flow(tiny("trainer.log_every=1"), folder)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(tiny("trainer.log_every=1"), folder)
    steps = [row.split(",") for row in (folder / "logs/flow.1/metrics.csv").read_text().splitlines()]
    assert steps[1][steps[0].index("step")] == "2"  # it went on
    run(tiny("trainer.log_every=1", "force=true"), folder)  # a finished run begins anew
    assert {path.name for path in (folder / "logs").iterdir()} == {"autoencoder", "flow"}


# --- the search ---
def searched(storage: str, trials: int, seed: int) -> list[dict]:
    """A study of a known function, in one process or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="s", storage=storage, sampler=tpe(seed=seed, n_startup_trials=4), load_if_exists=True
    )
    for _ in range(trials):
        trial = study.ask()
        x, kind = trial.suggest_float("x", -3, 3), trial.suggest_categorical("kind", ["a", "b"])
        study.tell(trial, (x - 1) ** 2 + (kind == "a"))
    return [trial.params for trial in study.trials]


def test_a_search_in_two_parts_tries_what_one_in_a_piece_tries(tmp_path):
    paths = [study_storage(str(tmp_path / name)) for name in ("whole", "parts", "other")]
    whole = searched(paths[0], 12, seed=0)
    searched(paths[1], 3, seed=0)
    assert searched(paths[1], 9, seed=0) == whole
    assert searched(paths[2], 12, seed=1) != whole
    assert len({round(p["x"], 6) for p in whole}) == 12
    assert np.mean([abs(p["x"] - 1) for p in whole[6:]]) < np.mean([abs(p["x"] - 1) for p in whole[:4]])
    with pytest.raises(TypeError, match="colour"):
        tpe(colour="red")


def test_a_study_is_named_by_what_is_not_searched_and_counts_what_is_finished(tmp_path):
    one, again, other = (
        whole("sweep=optuna_generation", *more, outputs=tmp_path) for more in ([], ["figures=true"], ["data=simulated"])
    )
    assert study_name(one) == study_name(again) != study_name(other)
    assert trials_left(24, one) == 24  # no file yet
    assert one.hydra.sweeper.n_trials == 24
    study = optuna.create_study(study_name=one.hydra.sweeper.study_name, storage=one.hydra.sweeper.storage)
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL):
        study.tell(study.ask(), 1.0 if state == optuna.trial.TrialState.COMPLETE else None, state)
    study.ask()  # a killed trial stays running
    assert trials_left(24, one) == 23
    assert trials_left(1, one) == 0
    assert trials_left(24, other) == 24


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path):
    arguments = [
        "-m", "sweep=optuna_generation", *CELLS, *NETWORK, "trainer.limit_steps=1", f"paths.outputs={tmp_path}",
        "hydra.sweeper.n_trials=${trials_left:4}",
    ]  # fmt: skip
    file = tmp_path / "sweeps/optuna_generation/study.db"

    def states() -> list[str]:
        if not file.is_file():
            return []
        with closing(sqlite3.connect(file, timeout=30)) as study:
            try:
                return [state for (state,) in study.execute("SELECT state FROM trials ORDER BY number")]
            except sqlite3.OperationalError:
                return []

    search = subprocess.Popen(
        [sys.executable, "train.py", *arguments], cwd=ROOT, env=clean_environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while states().count("COMPLETE") < 2:
            assert search.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(search.pid, signal.SIGKILL)
        search.wait()
    before = states().count("COMPLETE")
    done = train(*arguments)
    assert done.returncode == 0, done.stderr
    assert states().count("COMPLETE") == 4
    assert done.stdout.count("validation cells: energy") == 4 - before
    best = yaml.safe_load((file.parent / "optimization_results.yaml").read_text())
    values = [json.loads(path.read_text())["validation"]["energy"] for path in tmp_path.rglob("results.json")]
    assert len(values) >= 4  # each trial has a folder of its own
    assert best["best_value"] == pytest.approx(min(values))


@pytest.mark.slow
def test_submitit_runs_jobs_in_processes_of_its_own(tmp_path):
    done = train(
        "-m", *CELLS, *NETWORK, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "method=pca_gaussian",
        "seed=0,1", f"paths.outputs={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("results.json"))) == 2
