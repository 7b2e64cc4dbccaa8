"""Reproduction: what is skipped, resumed, left out, listed and retried. The jobs' own train.py is a small stand-in."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from scsave.errors import UserError
from scsave.files import write_json
from scsave.runs import reproduce
from scsave.runs.naming import scores_folder
from scsave.runs.reproduce import (
    DONE,
    FAILED,
    MISSING,
    PENDING,
    RUNNING,
    Driver,
    expand,
    experiments,
    read_json,
    unavailable,
)  # fmt: skip

from ..conftest import ROOT, clean_environment

CONFIGS = ROOT / "configs"

# In train.py's place: does what the file `plan` beside it says for the first word of the grid's setting that it names.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
here = Path(__file__).parent
job = next(one for one in json.loads((here / "jobs.json").read_text()) if set(one["names"]) <= set(sys.argv[1:]))
plan = json.loads((here / "plan.json").read_text()).get(job["hash"], "")
with open(here / "calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
folder = Path(job["folder"])
folder.mkdir(parents=True, exist_ok=True)
def stop(*_):
    (folder / "stopped").touch()
    raise SystemExit(130)
signal.signal(signal.SIGTERM, stop)
(folder / "pid").write_text(str(os.getpid()))
if plan == "crash":
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
while plan == "wait" and not (here / "go").exists():
    time.sleep(0.02)
if plan == "err":
    print("noise", flush=True)
    sys.exit("error: the cells are upside down")
results = Path(job["results"])
results.parent.mkdir(parents=True, exist_ok=True)
config = {"experiment_name": job["experiment"]}
results.write_text(json.dumps({"config_hash": job["hash"], "cost": {}, "config": config}))
"""


class Stage:
    """A repository whose train.py is the stand-in: `plan` says what a job does, `calls` what train.py was called with."""

    def __init__(self, root: Path):
        self.root, self.outputs, self.expanded = root, root / "outputs", {}
        (root / "train.py").write_text(STAND_IN)

    def driver(self, *names: str, more: tuple = (), plan: dict | None = None, **options) -> Driver:
        """A driver of the experiments; `plan`: a word of the job's title -> crash, err or wait."""
        if (names, more) not in self.expanded:
            given = [f"paths.outputs={self.outputs}", *more]
            self.expanded[names, more] = expand(CONFIGS, experiments(CONFIGS, list(names)), [0], given)
        self.jobs = copy.deepcopy(self.expanded[names, more])
        said = {job.hash: what for job in self.jobs for word, what in (plan or {}).items() if word in job.title}
        calls = [{"hash": job.hash, "names": list(job.overrides[:2])} for job in self.jobs]
        for call, job in zip(calls, self.jobs, strict=True):
            call |= {"folder": str(job.folder), "results": str(results_of(job)), "experiment": job.experiment}
        (self.root / "plan.json").write_text(json.dumps(said))
        (self.root / "jobs.json").write_text(json.dumps(calls))
        (self.root / "calls").write_text("")
        return Driver(self.jobs, self.outputs / "reproduce" / "small", self.root, **options)

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.root / "calls").read_text().splitlines()]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    source = str(Path(reproduce.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", source)
    return Stage(tmp_path)


def write_results(job, digest=None):
    write_json(results_of(job), {"config_hash": digest or job.hash, "cost": {}, "config": {}})


def results_of(job):
    return scores_folder(job.folder, job.cfg) / "results.json"


def counts(driver):
    statuses = [job.entry["status"] for job in driver.jobs]
    return {status: statuses.count(status) for status in set(statuses)}


def test_a_grid_is_what_hydra_would_make_of_it(tmp_path):
    jobs = expand(CONFIGS, ["ablation/objective"], [3, 0], [f"paths.outputs={tmp_path}"])
    assert len(jobs) == len({job.hash for job in jobs}) == 5 * 2 * 2
    assert {job.entry["seed"] for job in jobs} == {0, 3}
    one = next(job for job in jobs if "objective=ddpm" in job.overrides and "sampling.solver.steps=5" in job.overrides)
    assert one.cfg.objective._target_.endswith("DDPM")
    assert one.cfg.sampling.solver.steps == 5
    # the hash is that of the same command composed afresh
    (again,) = expand(CONFIGS, ["demo"], [one.cfg.seed], ["objective=ddpm", "sampling.solver.steps=5"])
    assert again.hash == one.hash


def test_groups_and_patterns_name_experiments():
    assert "paper/heart" in experiments(CONFIGS, ["paper"])
    assert "paper/defaults" not in experiments(CONFIGS, ["paper"])
    assert not [name for name in experiments(CONFIGS, ["small", "correction"]) if "/base/" in name]
    assert experiments(CONFIGS, ["paper/lung_cancer*"]) == ["paper/lung_cancer_seen", "paper/lung_cancer_unseen"]
    with pytest.raises(UserError, match=r"nowhere: no such experiment; there are: .*paper/heart"):
        experiments(CONFIGS, ["nowhere"])


def test_done_is_what_has_results_with_the_job_s_hash(stage, capsys):
    driver = stage.driver("small/projection")
    assert driver.run(workers=2) == 0
    assert len(stage.calls) == 2
    assert "[2/2 done]" in capsys.readouterr().out
    again = stage.driver("small/projection")
    assert again.waiting == []
    assert counts(again) == {DONE: 2}
    assert all(job.entry["seconds"] > 0 for job in again.jobs)
    write_results(driver.jobs[0], digest="0123456789")  # of another config
    assert [job.hash for job in stage.driver("small/projection").waiting] == [driver.jobs[0].hash]


def test_experiments_that_share_a_run_make_it_once(stage):
    driver = stage.driver("small/projection", "small/encoder", "small/mask_rate", "small/blocks")
    shared = {"backbone.projection=per_block", "training.mask_rate=0.6", "blocking=semantic"}
    same = [job for job in driver.jobs if shared & set(job.overrides)]
    assert len(same) == 3
    assert len({job.hash for job in same}) == 1
    assert len(driver.waiting) == len({job.hash for job in driver.jobs}) == len(driver.jobs) - 2
    driver.waiting = [job for job in driver.waiting if job.hash == same[0].hash]
    driver.run(workers=1)
    assert len(stage.calls) == 1
    assert {job.entry["status"] for job in same} == {DONE}
    found = json.loads(same[0].scores.read_text())
    assert {found["config"]["experiment_name"], *found["also_for"]} == {job.experiment for job in same}


def test_failed_is_listed_and_only_retried_on_request(stage, capsys):
    assert stage.driver("small/projection", plan={"shared": "err"}).run(workers=1) == 1
    out = capsys.readouterr().out
    assert "failed the cells are upside down" in out
    assert "failed: python train.py experiment=small/projection backbone.projection=shared seed=0" in out
    assert "RETRY=1" in out
    still = stage.driver("small/projection")
    assert still.waiting == []
    assert still.run(workers=1) == 1
    retried = stage.driver("small/projection", retry=True)
    (job,) = retried.waiting
    OmegaConf.save(job.cfg, job.folder / "config.yaml")
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "autoencoder.ckpt").touch()  # left by a run that erred: not gone on with
    assert retried.run(workers=1) == 0
    assert len(stage.calls) == 1
    assert not any(argument.startswith("resume=") for argument in stage.calls[0])


def test_what_can_t_be_had_is_looked_for_and_named_once(stage, tmp_path, capsys, monkeypatch):
    looked = []

    def look(group, node, folder, fetch):
        looked.append((group, node))
        missing = group == "data" and "kang" in node
        return "dataset missing: no such file" if missing else None

    monkeypatch.setattr(reproduce, "unavailable", reproduce.cache(look))
    driver = stage.driver("small/three_seen", "small/three_unseen", "small/projection")
    driver.leave_out(fetch=True)
    assert capsys.readouterr().out == "not run: dataset missing: no such file (4 jobs)\n"
    assert len(looked) == len(set(looked))
    assert driver.run(workers=1) == 0
    assert len(stage.calls) == 2
    rows = read_json(driver.home / "state.json")["jobs"]
    assert {row["reason"] for row in rows if row["status"] == MISSING} == {"dataset missing: no such file"}
    assert counts(stage.driver("small/three_seen")) == {PENDING: 2}  # looked for again the next time


def test_a_missing_file_is_found_missing_without_training(stage, tmp_path, capsys):
    driver = stage.driver("small/combat_unseen", more=(f"paths.data={tmp_path}/nothing",))
    driver.leave_out(fetch=False)
    assert driver.waiting == []
    assert "not run: dataset missing: " in (out := capsys.readouterr().out)
    assert "covid_pbmc_combat.h5ad: no such file" in out


def test_a_missing_package_is_named(stage, monkeypatch):
    unavailable.cache_clear()
    monkeypatch.setattr(reproduce.importlib.util, "find_spec", lambda name: None)
    driver = stage.driver("small/correction")
    nodes = {job.entry["method"]: OmegaConf.to_yaml(job.cfg.method, resolve=True) for job in driver.jobs}
    found = {method: unavailable("method", node, "cache", False) for method, node in nodes.items()}
    unavailable.cache_clear()
    assert found["harmony"] == "package missing: harmonypy (make setup EXTRAS=dev,baselines)"
    assert found["save"] is None


def test_a_download_that_fails_is_missing_and_is_not_tried_where_nothing_is_fetched(composed, tmp_path, monkeypatch):
    unavailable.cache_clear()
    from scsave.data.downloaded import Downloaded

    def refuse(self, cache):
        raise UserError("data=pbmc: no mirror answers")

    monkeypatch.setattr(Downloaded, "checksum", refuse)
    node = OmegaConf.to_yaml(composed("data=pbmc").data, resolve=True)
    assert unavailable("data", node, str(tmp_path), True) == "dataset missing: data=pbmc: no mirror answers"
    assert unavailable("data", node, str(tmp_path), False) is None


def test_dry_lists_what_would_run_and_the_time_that_was_recorded(stage, capsys):
    stage.driver("small/projection", plan={"shared": "err"}).run(workers=2)
    capsys.readouterr()
    driver = stage.driver("small/projection", "small/pbmc3k", retry=True)
    first = next(job for job in driver.jobs if job.entry["status"] == DONE)
    first.entry["seconds"] = 600.0
    driver.plan()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.strip().startswith("600 s") and "projection=shared" in line for line in lines)
    assert sum(line.strip().startswith("?") and "small/pbmc3k" in line for line in lines) == 2
    assert lines[-1].startswith("3 jobs would run: 10 min of work by what was recorded, and 2 jobs of which nothing")
    assert "1 done" in lines[-1]
    assert stage.calls == []


def test_a_stopped_run_is_resumed_and_one_that_failed_of_itself_starts_over(stage):
    driver = stage.driver("small/projection")
    job = driver.waiting[0]
    assert job.arguments() == list(job.overrides)
    (job.folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(job.cfg, job.folder / "config.yaml")
    assert job.arguments() == list(job.overrides)  # nothing to go on from yet
    (job.folder / "checkpoints" / "autoencoder.ckpt").touch()
    assert job.arguments()[0] == f"resume={job.folder}"
    for killed, first in ((True, "resume="), (False, "experiment=")):
        job.entry["killed"] = killed
        assert job.arguments()[0].startswith(first)
    job.entry["killed"] = None
    OmegaConf.save(driver.waiting[1].cfg, job.folder / "config.yaml")  # what lies there is another run's
    assert job.arguments() == list(job.overrides)


def test_jobs_run_side_by_side_and_a_crash_ends_itself_alone(stage):
    driver = stage.driver("small/projection", plan={"shared": "crash"})
    assert driver.run(workers=2) == 1
    crashed, done = sorted(driver.jobs, key=lambda job: job.entry["status"] == DONE)
    assert crashed.entry["reason"] == f"killed by signal {signal.SIGSEGV.value}"
    assert crashed.entry["killed"]
    assert done.entry["status"] == DONE
    again = stage.driver("small/projection", retry=True)
    assert again.run(workers=1) == 0


def test_jobs_of_one_folder_never_run_at_once(stage):
    driver = stage.driver("small/projection", plan={"per_block": "wait", "shared": "wait"})
    for job in driver.jobs:
        job.folder = driver.jobs[0].folder  # as two samplings of one training would have it
    (stage.root / "go").touch()
    at_once = []
    run_job = driver.run_job

    def counted(job):
        at_once.append(len(driver.running))
        return run_job(job)

    driver.run_job = counted
    driver.run(workers=2)
    assert at_once == [0, 0]


def test_state_holds_what_tables_and_the_report_read(stage):
    driver = stage.driver("small/projection", plan={"shared": "err"})
    driver.run(workers=2)
    state = read_json(driver.home / "state.json")
    assert state["schema"] == 1
    needed = {
        "experiment",
        "overrides",
        "seed",
        "task",
        "data",
        "method",
        "folder",
        "status",
        "reason",
        "seconds",
        "command",
    }
    assert needed <= set(state["jobs"][0])
    (driver.home / "state.json").write_text('{"schema": 1, "jo')
    assert counts(stage.driver("small/projection")) == {DONE: 1, PENDING: 1}


# --- signals: a driver that is stopped or killed takes its jobs with it, and they save ---
DRIVER = """
import sys, signal
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.runs.test_reproduce import Stage
signal.signal(signal.SIGTERM, signal.default_int_handler)
stage = Stage(Path(sys.argv[1]))
sys.exit(stage.driver("small/projection", plan={"per_block": "wait", "shared": "wait"}).run(workers=1))
"""


@pytest.mark.parametrize(("number", "status", "code"), [(signal.SIGTERM, PENDING, 130), (signal.SIGKILL, RUNNING, -9)])
def test_no_job_trains_on_without_its_driver(number, status, code, stage, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    call = [sys.executable, str(tmp_path / "driver.py"), str(tmp_path), str(ROOT)]
    driver = subprocess.Popen(call, env=clean_environment())
    pid = wait_for(lambda: next(iter(tmp_path.rglob("pid")), None))
    wait_for(pid.read_text)
    driver.send_signal(number)
    assert driver.wait() == code
    wait_for((pid.parent / "stopped").exists)
    wait_for(lambda: not alive(int(pid.read_text())))
    first = read_json(tmp_path / "outputs/reproduce/small/state.json")["jobs"]
    assert sorted(job["status"] for job in first) == sorted([status, PENDING])
    assert counts(stage.driver("small/projection")) == {PENDING: 2}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z" if Path("/proc").is_dir() else True


def wait_for(what, seconds: float = 120):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def script(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "scripts/reproduce_paper.py", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=clean_environment(), **pipes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "error: nothing: no such experiment"),
        (["small/projection", "--seeds", "one"], "error: --seeds one: expected numbers"),
        (
            ["small/projection", "--launcher", "moon"],
            "error: experiment=small/projection: In 'hydra/config': Could not find 'hydra/launcher/moon'; Available",
        ),
        (["small/projection", "--more", "colour=red"], "error: experiment=small/projection: colour: unknown key"),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments, words, tmp_path):
    process = script(*arguments, "--outputs", str(tmp_path))
    out = process.communicate()[0]
    assert out.startswith(words), out
    assert len(out.strip().splitlines()) == 1
    assert process.returncode == 2


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_loses_nothing(tmp_path):
    """The real thing: train.py in a job, the driver killed while it trains; again, by joblib, two at once; and again."""
    call = ["small/projection", "--outputs", str(tmp_path), "--workers", "1", "--more"]
    call += ["data=simulated", "data.n_cells=240", "data.n_genes=48", "blocking=random", "backbone.width=16"]
    call += ["training.autoencoder_steps=1500", "training.flow_steps=10", "callbacks.checkpoint_every=20"]
    process = script(*call)
    state = tmp_path / "reproduce" / "small" / "state.json"
    until = time.monotonic() + 300
    while not list(tmp_path.rglob("autoencoder.ckpt")):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert read_json(state)["jobs"][0]["status"] == RUNNING
    # the orphan writes its checkpoint and goes; the next call goes on from it
    again = script(*call[:3], "--workers", "2", "--launcher", "joblib", *call[5:])
    out = again.communicate(timeout=500)[0]
    assert again.returncode == 0, out
    jobs = read_json(state)["jobs"]
    assert {job["status"] for job in jobs} == {DONE}
    logs = [Path(job["folder"]) / "logs" for job in jobs]
    assert [(log / "autoencoder.1").is_dir() for log in logs] == [True, False]  # the first went on, the second began
    first = json.loads(next(Path(jobs[0]["folder"]).rglob("results.json")).read_text())
    assert first["config_hash"] == jobs[0]["hash"]
    assert first["command"].startswith("python train.py experiment=small/projection")
    third = script(*call)
    assert "2 done" in third.communicate(timeout=100)[0]
    assert FAILED not in {job["status"] for job in read_json(state)["jobs"]}
