"""Reproduction: what is skipped, resumed, named once, listed and retried. The jobs' own train.py is a small stand-in."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scsave.errors import UserError
from scsave.runs.reproduce import availability
from scsave.runs.reproduce.driver import Driver
from scsave.runs.reproduce.estimate import Estimates, modelled, spoken
from scsave.runs.reproduce.jobs import expand, experiments
from scsave.runs.reproduce.pool import Pool
from scsave.runs.reproduce.state import DONE, FAILED, MISSING, PENDING, RUNNING, State, read_state, states

from .conftest import ROOT, clean_environment

CONFIGS = ROOT / "configs"


@dataclass
class Ended:
    what: object
    code: int
    seconds: float = 7.0
    cpu_seconds: float = 5.0
    started: float = 0.0


@dataclass
class Runner:
    """In a pool's place: writes results.json, unless the job's title has one of `broken`."""

    broken: tuple = ()
    workers: int = 1
    tasks: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    @property
    def full(self):
        return len(self.tasks) == self.workers

    def start(self, job, arguments, log):
        self.asked.append(arguments)
        bad = any(word in job.title for word in self.broken)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("noise\nerror: the cells are upside down\n" if bad else "fine\n")
        if not bad:
            write_results(job)
        self.tasks.append(Ended(job, 2 if bad else 0))

    def finished(self):
        return [self.tasks.pop()]


def write_results(job, digest=None):
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "results.json").write_text(json.dumps({"config_hash": digest or job.hash, "cost": {}}))


@pytest.fixture
def make(tmp_path):
    """`make("small/projection")`: jobs of these experiments, and a driver of them."""

    def driver(*names, more=(), **options):
        jobs = expand(CONFIGS, experiments(CONFIGS, list(names)), [0], [f"paths.outputs={tmp_path}", *more])
        state = State(tmp_path / "reproduce" / "small" / "state.json", jobs)
        return Driver(jobs, state, tmp_path, **options)

    return driver


def test_a_grid_is_what_hydra_would_make_of_it(tmp_path):
    jobs = expand(CONFIGS, ["ablation/objective"], [3, 0], [f"paths.outputs={tmp_path}"])
    assert len(jobs) == len({job.hash for job in jobs}) == 5 * 2 * 2
    assert {job.seed for job in jobs} == {0, 3}
    one = next(job for job in jobs if "objective=ddpm" in job.overrides and "sampling.solver.steps=5" in job.overrides)
    assert one.cfg.objective._target_.endswith("DDPM")
    assert one.cfg.sampling.solver.steps == 5
    # the hash is that of the same command composed afresh
    (again,) = expand(CONFIGS, ["demo"], [one.seed], ["objective=ddpm", "sampling.solver.steps=5"])
    assert again.hash == one.hash


def test_groups_and_patterns_name_experiments():
    assert "paper/heart" in experiments(CONFIGS, ["paper"])
    assert "paper/defaults" not in experiments(CONFIGS, ["paper"])
    assert not [name for name in experiments(CONFIGS, ["small"]) if "/base/" in name]
    assert experiments(CONFIGS, ["paper/lung_cancer*"]) == ["paper/lung_cancer_seen", "paper/lung_cancer_unseen"]
    with pytest.raises(UserError, match=r"nowhere: no such experiment; there are: .*paper/heart"):
        experiments(CONFIGS, ["nowhere"])


def test_done_is_what_has_results_with_the_job_s_hash(make, capsys):
    driver, runner = make("small/projection"), Runner()
    assert driver.run(runner) == 0
    assert len(runner.asked) == 2
    assert "[2/2]" in capsys.readouterr().out
    again = make("small/projection")
    assert again.waiting == []
    assert again.state.count() == {DONE: 2}
    write_results(driver.jobs[0], digest="0123456789")  # of another config
    assert [job.hash for job in make("small/projection").waiting] == [driver.jobs[0].hash]


def test_experiments_that_share_a_run_make_it_once(make):
    driver, runner = make("small/projection", "small/encoder", "small/mask_rate", "small/blocks"), Runner()
    shared = {"backbone.projection=per_block", "training.mask_rate=0.2", "blocking=semantic"}
    same = [job for job in driver.jobs if shared & set(job.overrides)]
    assert len(same) == 3
    assert len({job.hash for job in same}) == 1
    driver.run(runner)
    assert len(runner.asked) == len({job.hash for job in driver.jobs}) == len(driver.jobs) - 2
    assert {driver.state.of(job)["status"] for job in same} == {DONE}


def test_failed_is_listed_and_only_retried_on_request(make, capsys):
    driver = make("small/projection")
    assert driver.run(Runner(broken=("shared",))) == 1
    told = capsys.readouterr().out
    assert "failed: the cells are upside down" in told
    assert "failed: python train.py experiment=small/projection backbone.projection=shared seed=0" in told
    assert "RETRY=1" in told
    still = make("small/projection")
    assert still.waiting == []
    assert still.run(Runner()) == 1
    retried, runner = make("small/projection", retry=True), Runner()
    assert retried.run(runner) == 0
    assert len(runner.asked) == 1
    assert not any(argument.startswith("resume=") for argument in runner.asked[0])


def test_a_data_set_that_can_t_be_had_is_asked_for_and_named_once(make, capsys, monkeypatch):
    asked = []

    def ask(job):
        asked.append(job)
        return None if job.cfg.data.name == "pbmc68k" else "dataset missing: no such file"

    monkeypatch.setattr(availability, "fetched", ask)
    driver, runner = make("small/three_seen", "small/three_unseen", "small/projection"), Runner()
    driver.leave_out()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1
    assert told[0].startswith("not run: data/local/kang_pbmc_ifnb.h5ad, 4 jobs: dataset missing")
    assert len(asked) == 2
    assert driver.run(runner) == 0
    assert len(runner.asked) == 2
    rows = read_state(driver.state.path)["jobs"]
    reasons = {row["reason"] for row in rows if row["status"] == MISSING}
    assert reasons == {"dataset missing: no such file"}
    assert make("small/three_seen").state.count() == {PENDING: 2}  # asked again the next time


def test_a_missing_file_is_found_missing_without_training(make, tmp_path, capsys):
    driver = make("small/combat_unseen", more=[f"paths.data={tmp_path}/nothing"])
    driver.leave_out()
    assert driver.waiting == []
    (reason,) = driver.state.missing.values()
    assert reason.startswith("dataset missing: ")
    assert "covid_pbmc_combat.h5ad: no such file" in reason


def test_a_missing_package_is_named(make, monkeypatch):
    driver = make("small/correction")
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    found = {job.method: availability.package(job.cfg.baseline) for job in driver.jobs}
    assert found["harmony"] == "package missing: harmonypy (make setup EXTRAS=dev,baselines)"
    assert found["scsave"] is None


def test_dry_lists_what_would_run_and_what_the_time_rests_on(make, capsys):
    make("small/projection").run(Runner(broken=("shared",)))
    capsys.readouterr()
    make("small/projection", "small/pbmc3k", retry=True).plan(workers=2)
    lines = capsys.readouterr().out.splitlines()
    assert any("(like)" in line and "projection=shared" in line for line in lines)
    assert sum("(model)" in line and "small/pbmc3k" in line and "missing" in line for line in lines) == 2
    assert "3 jobs would run" in lines[-1]
    assert "1 done" in lines[-1]


def test_estimates_grow_with_steps_and_genes_and_are_scaled_by_what_was_measured(make):
    driver = make("small/projection", "small/pbmc3k")
    cheap = modelled(driver.jobs[0].cfg)
    (big,) = expand(CONFIGS, ["paper/heart"], [0], [])
    assert modelled(big.cfg) > 100 * cheap
    done = next(job for job in driver.jobs if job.experiment == "small/pbmc3k")
    driver.state.set(done, DONE, seconds=10 * modelled(done.cfg))
    other = next(job for job in driver.jobs if job.experiment == "small/projection")
    assert Estimates(driver.state, driver.jobs).of(other) == (pytest.approx(10 * modelled(other.cfg)), "model")
    assert [spoken(s) for s in (5, 600, 36_000, 900_000)] == ["5 s", "10 min", "10.0 h", "10 days"]


def test_a_killed_job_resumes_and_one_that_erred_starts_over(make):
    driver = make("small/projection")
    job = driver.waiting[0]
    assert driver.arguments(job) == list(job.overrides)
    (job.folder / "checkpoints").mkdir(parents=True)
    (job.folder / "config.yaml").touch()
    assert driver.arguments(job) == list(job.overrides)  # nothing to go on from yet
    (job.folder / "checkpoints" / "autoencoder.ckpt").touch()
    driver.state.set(job, RUNNING)
    driver.state.save()
    after_kill = make("small/projection")
    assert job.hash in {one.hash for one in after_kill.waiting}
    assert after_kill.arguments(job)[0] == f"resume={job.folder}"
    for code, first in ((-9, "resume="), (1, "experiment=")):
        log = driver.state.path.parent / "x.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("Traceback\nZeroDivisionError: division by zero\n")
        driver.state.set(job, RUNNING, log=str(log))
        driver.finish(Ended(job, code))
        assert driver.arguments(job)[0].startswith(first)
    assert driver.state.of(job)["reason"] == "ZeroDivisionError: division by zero"


def test_pages_are_made_again_only_if_something_changed(make, tmp_path, capsys):
    (tmp_path / "scripts").mkdir()
    for script in ("make_tables.py", "make_figures.py", "make_report.py"):
        code = "import sys, pathlib; pathlib.Path(sys.argv[3]).write_text('x'); open(sys.argv[1] + '/made', 'a').write('1')"
        (tmp_path / "scripts" / script).write_text(code)
    driver = make("small/projection")
    driver.run(Runner())
    assert driver.publish(tmp_path) == 0
    again = make("small/projection")
    again.run(Runner())
    assert again.publish(tmp_path) == 0
    assert (tmp_path / "made").read_text() == "111"
    write_results(driver.jobs[0])
    changed = make("small/projection")
    assert changed.publish(tmp_path) == 0
    assert (tmp_path / "made").read_text() == "111111"
    (tmp_path / "scripts" / "make_figures.py").write_text("raise SystemExit(3)")
    write_results(driver.jobs[0])
    assert make("small/projection").publish(tmp_path) == 1
    assert "make figures" in capsys.readouterr().err


def test_state_is_read_back_and_half_a_file_is_nothing(make, tmp_path):
    driver = make("small/projection")
    driver.state.save()
    found = states(tmp_path)["small"]["jobs"]
    assert {"experiment", "overrides", "seed", "folder", "status", "reason", "seconds", "command"} <= set(found[0])
    driver.state.path.write_text('{"schema": 1, "jo')
    assert states(tmp_path) == {}


STAND_IN = """
import json, os, signal, sys, time, pathlib
name, *rest = sys.argv[1:]
where = pathlib.Path(name)
where.mkdir(exist_ok=True)
print("began", flush=True)
if "crash" in rest:
    os.kill(os.getpid(), signal.SIGSEGV)
def stop(*_):
    (where / "stopped").touch()
    raise SystemExit(130)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
(where / "pid").write_text(str(os.getpid()))
while "wait" in rest and not (where / "go").exists():
    time.sleep(0.02)
(where / "done").touch()
if "err" in rest:
    raise SystemExit(2)
"""


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "train.py").write_text(STAND_IN)
    (tmp_path / "src").mkdir()
    return Pool(tmp_path, workers=2, threads=1, preload=())


def test_jobs_run_side_by_side_and_a_crash_ends_itself_alone(pool, tmp_path):
    for number, words in enumerate((["wait"], ["crash"])):
        pool.start(number, [str(tmp_path / str(number)), *words], tmp_path / f"{number}.log")
    assert pool.full
    (ended,) = pool.finished()
    assert (ended.what, ended.code) == (1, -signal.SIGSEGV)
    (tmp_path / "0").mkdir(exist_ok=True)
    (tmp_path / "0" / "go").touch()
    (ended,) = pool.finished()
    assert (ended.what, ended.code) == (0, 0)
    assert ended.cpu_seconds > 0
    assert (tmp_path / "0.log").read_text() == "began\n"
    pool.start(2, [str(tmp_path / "2"), "err"], tmp_path / "2.log")
    assert [task.code for task in pool.finished()] == [2]


def test_stop_asks_jobs_to_stop_and_waits_for_them(pool, tmp_path):
    pool.start(0, [str(tmp_path / "0"), "wait"], tmp_path / "0.log")
    wait_for(tmp_path / "0" / "pid")
    pool.stop()
    assert (tmp_path / "0" / "stopped").exists()
    assert pool.tasks == []


DRIVER = """
import sys
from pathlib import Path
from scsave.runs.reproduce.pool import Pool
if __name__ == "__main__":
    root = Path(sys.argv[1])
    pool = Pool(root, workers=1, threads=1, preload=())
    pool.start(0, [str(root / "0"), "wait"], root / "0.log")
    pool.finished()
"""


def test_when_the_driver_is_killed_no_job_trains_on(pool, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py"), str(tmp_path)], env=clean_environment())
    job = int(wait_for(tmp_path / "0" / "pid").read_text())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(tmp_path / "0" / "stopped")
    until = time.monotonic() + 20
    while alive(job) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(job)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z" if Path("/proc").is_dir() else True


def wait_for(path: Path, seconds: float = 60) -> Path:
    until = time.monotonic() + seconds
    while not (path.exists() and (path.stat().st_size or (path.suffix == "" and path.name != "pid"))):
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)
    return path


def reproduce(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "scripts/reproduce_paper.py", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "error: nothing: no such experiment"),
        (["small/projection", "--seeds", "one"], "error: --seeds one: expected numbers"),
        (["small/projection", "--launcher", "moon"], "error: --launcher moon: Hydra knows no such launcher"),
        (["small/projection", "--more", "colour=red"], "error: experiment=small/projection: colour: unknown key"),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments, words, tmp_path):
    process = reproduce(*arguments, "--outputs", str(tmp_path))
    told = process.communicate()[0]
    assert told.startswith(words), told
    assert len(told.strip().splitlines()) == 1
    assert process.returncode == 2


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_loses_nothing(tmp_path):
    """The real thing: train.py in a job, the driver killed while it trains; again, by joblib, two at once; and again."""
    call = ["small/projection", "--outputs", str(tmp_path), "--workers", "1", "--no-report", "--more"]
    call += [
        "data=simulated",
        "data.n_cells=240",
        "data.n_genes=48",
        "blocking=random",
        "training.autoencoder_steps=1500",
    ]
    call += ["training.flow_steps=10", "callbacks.checkpoint_every=20", "backbone.width=16", "backbone.depth=1"]
    process = reproduce(*call)
    state = tmp_path / "reproduce" / "small" / "state.json"
    until = time.monotonic() + 300
    while not list(tmp_path.rglob("autoencoder.ckpt")):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert read_state(state)["jobs"][0]["status"] == RUNNING
    # the orphan writes its checkpoint and goes; the next call goes on from it
    again = reproduce(*call[:3], "--workers", "2", "--launcher", "joblib", *call[5:])
    told = again.communicate(timeout=500)[0]
    assert again.returncode == 0, told
    jobs = read_state(state)["jobs"]
    assert {job["status"] for job in jobs} == {DONE}
    assert jobs[0]["resumed"]
    assert not jobs[1]["resumed"]
    first = json.loads((Path(jobs[0]["folder"]) / "results.json").read_text())
    assert first["config_hash"] == jobs[0]["hash"]
    assert first["command"].startswith("python train.py experiment=small/projection")
    third = reproduce(*call)
    assert "2 done" in third.communicate(timeout=100)[0]
    assert FAILED not in {job["status"] for job in read_state(state)["jobs"]}
