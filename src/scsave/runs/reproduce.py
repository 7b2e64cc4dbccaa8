"""Reproduction driver: each job of an experiment is one `python train.py`, skipped where done, resumed where stopped.

What became of every job stands in `<outputs>/reproduce/<name>/state.json`; tables read there what was not run, and why.
"""

import copy
import fnmatch
import importlib.util
import os
import runpy
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scsave.components import build
from scsave.errors import UserError
from scsave.files import RESULTS, read_json, write_json
from scsave.packages import Needs
from scsave.runs.main import INTERRUPTED, one_line, register_resolvers
from scsave.runs.naming import CONFIG, config_hash, run_dir, scores_folder
from scsave.runs.record import also_for

PENDING, RUNNING, DONE, FAILED, MISSING = "pending", "running", "done", "failed", "missing"
KEPT = ("status", "reason", "seconds", "killed", "log")  # what the next call knows of this one's jobs
STARTED = ("checkpoints/*.ckpt", "folds/*/checkpoints/*.ckpt")  # what a run can go on from
CHILD = "from scsave.runs.reproduce import train_job; train_job()"


class Job:
    """One run of train.py: the overrides that make it, its composed config, and its entry of state.json."""

    def __init__(self, experiment: str, overrides: tuple[str, ...], cfg: DictConfig):
        self.experiment, self.overrides, self.cfg = experiment, overrides, cfg
        self.hash, self.folder = config_hash(cfg), Path(cfg.paths.outputs) / run_dir(cfg)
        self.scores = scores_folder(self.folder, cfg) / RESULTS
        own = [o for o in overrides if not o.startswith(("experiment=", "paths.", "hydra"))]
        self.title = " ".join([experiment, *own])
        names = {"task": cfg.task.name, "data": cfg.data.name, "method": cfg.method.name, "seed": cfg.seed}
        where = {"folder": str(self.folder), "hash": self.hash}
        where["command"] = shlex.join(["python", "train.py", *overrides])
        self.entry = {"experiment": experiment, "overrides": list(overrides)} | names | where | dict.fromkeys(KEPT)

    def results(self) -> dict[str, Any] | None:
        """The run's results.json; None where there is none of this job's config."""
        found = read_json(self.scores)
        return found if found.get("config_hash") == self.hash else None

    def arguments(self) -> list[str]:
        """The job's overrides; `resume=` where this very run was started and did not fail of itself."""
        config = self.folder / CONFIG
        started = config.is_file() and any(path for pattern in STARTED for path in self.folder.glob(pattern))
        if not started or self.entry["killed"] is False or config_hash(OmegaConf.load(config)) != self.hash:
            return list(self.overrides)
        kept = [o for o in self.overrides if o.startswith(("paths.", "logger", "hydra"))]
        return [f"resume={self.folder}", f"figures={str(self.cfg.figures).lower()}", *kept]


def experiments(configs: Path, groups: list[str]) -> list[str]:
    """Names below configs/experiment of each group, a folder (`paper`) or a pattern (`paper/pbmc*`), in order.

    Files called `defaults` and folders called `base` are what others build on. UserError for a group without a file.
    """
    root, found = configs / "experiment", []
    names = sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))
    names = [name for name in names if not {"defaults", "base"} & set(Path(name).parts)]
    for group in groups:
        chosen = [name for name in names if name.startswith(f"{group}/") or fnmatch.fnmatch(name, group)]
        if not chosen:
            raise UserError(f"{group}: no such experiment; there are: {', '.join(names)}")
        found += chosen
    return list(dict.fromkeys(found))


def expand(configs: Path, names: list[str], seeds: list[int], more: list[str]) -> list[Job]:
    """Every job of the experiments: a file's own grid, `hydra.sweeper.params`, read as `python train.py -m` reads it.

    `seeds` are for files that name none; `more` overrides hold for all jobs. UserError names a file that does not compose.
    """
    register_resolvers()
    jobs = []

    def points(grid: dict[str, Any]) -> list[list[str]]:
        parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in grid.items()])
        return [list(point) for point in BasicSweeper.split_arguments(parsed, None)[0]]

    with initialize_config_dir(str(configs.resolve()), version_base="1.3"):
        for name in names:
            try:
                first = f"experiment={name}"
                grid = dict(compose("train", [first, *more], return_hydra_config=True).hydra.sweeper.params or {})
                own = grid.pop("seed", ",".join(map(str, seeds)))
                for point in points(grid):
                    cfg = compose("train", [first, *point, *more])
                    for (seed,) in points({"seed": own}):
                        one = copy.deepcopy(cfg)
                        one.seed = int(seed.removeprefix("seed="))
                        jobs.append(Job(name, (first, *point, seed, *more), one))
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"experiment={name}: {one_line(error)}") from error
    return jobs


@cache
def unavailable(group: str, node: str, folder: str, fetch: bool) -> str | None:
    """Why what a config node (YAML) of `method`, `vectors` or `data` needs can't be had here; None where it can.

    With `fetch`, data sets and gene vectors are downloaded into the cache `folder`.
    """
    cfg, what = OmegaConf.create(node), "dataset" if group == "data" else group
    target = get_class(cfg._target_) if cfg.get("_target_") else None
    needs = getattr(target, "package", None)
    if isinstance(needs, Needs) and not importlib.util.find_spec(needs.module):
        return f"package missing: {needs.package} (make setup EXTRAS=dev,{needs.extra})"
    if cfg.get("path") and not Path(cfg.path).exists():
        return f"{what} missing: {cfg.path}: no such file (DATA=<folder> says where local files are)"
    try:
        if fetch and group == "data":
            build(OmegaConf.to_container(cfg), group).checksum(Path(folder))
        elif fetch and hasattr(target, "fetch") and not cfg.path:
            build(OmegaConf.to_container(cfg), group).fetch()
    except UserError as error:
        return f"{what} missing: {error}"
    return None


class Driver:
    """Runs `jobs` from the repository `root` and keeps what became of them in `home`/state.json.

    `only`: patterns of experiments, all where there are none; `retry`: failed jobs too; `sweep`: each job is a sweep of
    one, for the Hydra launcher among its overrides.
    """

    def __init__(self, jobs: list[Job], home: Path, root: Path, only=(), retry: bool = False, sweep: bool = False):
        self.jobs, self.home, self.root = jobs, home, root
        self.launch = ["-m", "hydra.sweeper.params=null"] if sweep else []
        self.lock, self.stopping, self.running = threading.Lock(), False, set()
        before = {(one["experiment"], one["hash"]): one for one in read_json(home / "state.json").get("jobs", [])}
        for job in jobs:
            old = before.get((job.experiment, job.hash), {})
            job.entry |= {key: old.get(key) for key in KEPT}
            if found := job.results():
                seconds = job.entry["seconds"] or found.get("cost", {}).get("seconds_total")
                job.entry |= {"status": DONE, "reason": None, "seconds": seconds}
            elif job.entry["status"] != FAILED or retry:
                job.entry |= {"status": PENDING, "reason": None}
        chosen = [job for job in jobs if job.entry["status"] == PENDING]
        chosen = [job for job in chosen if not only or any(fnmatch.fnmatch(job.experiment, one) for one in only)]
        # first seeds first, so that what is there early has every row; long jobs first, so that workers end together
        seeds = list(dict.fromkeys(job.entry["seed"] for job in jobs))
        chosen.sort(key=lambda job: (seeds.index(job.entry["seed"]), -(self.seconds(job) or 0)))
        self.waiting = list({job.hash: job for job in reversed(chosen)}.values())[::-1]

    def seconds(self, job: Job) -> float | None:
        """What this job took before, or the done ones of its experiment and method on average; None: not known."""
        same = [one.entry for one in self.jobs if one.experiment == job.experiment and one.entry["status"] == DONE]
        times = [one["seconds"] for one in same if one["method"] == job.entry["method"] and one["seconds"]]
        return job.entry["seconds"] or (statistics.fmean(times) if times else None)

    def set(self, job: Job, status: str, **more: Any) -> None:
        """The job's status, in the entry of every experiment that has this run; the state is written whole, at once."""
        with self.lock:
            for one in (one for one in self.jobs if one.hash == job.hash):
                one.entry |= {"status": status, "reason": None} | more
            write_json(self.home / "state.json", {"schema": 1, "jobs": [job.entry for job in self.jobs]})

    def leave_out(self, fetch: bool) -> None:
        """Sets aside the jobs whose data set, gene vectors or packages can't be had; each reason is printed once."""
        for job in self.waiting[:]:
            for group in ("method", "vectors", "data"):
                node = OmegaConf.to_yaml(job.cfg[group], resolve=True)
                if reason := unavailable(group, node, str(job.cfg.paths.cache), fetch):
                    self.set(job, MISSING, reason=reason)
                    self.waiting.remove(job)
                    break
        why = Counter(job.entry["reason"] for job in self.jobs if job.entry["status"] == MISSING)
        for reason, count in why.items():
            print(f"not run: {reason} ({count} jobs)", flush=True)

    def plan(self) -> None:
        """DRY=1: every job that would run, with the seconds that it, or its like, took before; and their sum."""
        times = [self.seconds(job) for job in self.waiting]
        for job, took in zip(self.waiting, times, strict=True):
            resumes = " (resumes)" if job.arguments()[0].startswith("resume=") else ""
            print(f"{f'{took:.0f} s' if took else '?':>8}  {job.title}{resumes}")
        print(
            f"{len(times)} jobs would run: {sum(filter(None, times)) / 60:.0f} min of work by what was recorded, and "
            f"{times.count(None)} jobs of which nothing is known; {self.summary()}"
        )

    def run(self, workers: int) -> int:
        """Everything that waits, `workers` at once; 0, or 1 if a job failed, or 130 after Ctrl-C."""
        groups: dict[Path, list[Job]] = {}
        for job in self.waiting:  # jobs of one folder share what is trained there: one after the other
            groups.setdefault(job.folder, []).append(job)
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self.one_by_one, group) for group in groups.values()]
            try:
                for future in as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                print("\nstopping: running jobs finish their step and save (Ctrl-C again: don't wait)", flush=True)
                self.stopping = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self.running):
                    process.stdin.close()
        for job in self.jobs:
            if job.entry["status"] == DONE:
                also_for(job.scores, job.experiment)
        failed = [job.entry for job in self.jobs if job.entry["status"] == FAILED]
        for entry in failed:
            print(f"failed: {entry['command']}\n  {entry['reason']}\n  {entry['log']}")
        again = "the same command goes on" if self.stopping else "RETRY=1 runs what failed again" if failed else ""
        print(self.summary(), again, sep="; " if again else "")
        return INTERRUPTED if self.stopping else int(bool(failed))

    def summary(self) -> str:
        count = Counter(job.entry["status"] for job in self.jobs)
        return ", ".join(f"{count[status]} {status}" for status in (DONE, FAILED, MISSING, PENDING) if count[status])

    def one_by_one(self, jobs: list[Job]) -> None:
        for job in jobs:
            if not self.stopping:
                self.run_job(job)

    def run_job(self, job: Job) -> None:
        """One process of train.py, its output in a log below `home`; what became of it is kept and printed."""
        log = self.home.resolve() / "logs" / f"{job.experiment.replace('/', '-')}-{job.hash}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command, started = [sys.executable, "-c", CHILD, *self.launch, *job.arguments()], time.perf_counter()
        self.set(job, RUNNING, log=str(log), killed=None)
        with open(log, "wb") as file:
            streams = {"stdin": subprocess.PIPE, "stdout": file, "stderr": file}
            process = subprocess.Popen(command, cwd=self.root, start_new_session=True, **streams)
            self.running.add(process)
            if self.stopping:
                process.stdin.close()
            code = process.wait()
        self.running.discard(process)
        took, reason = time.perf_counter() - started, ""
        if code == 0 and job.results():
            self.set(job, DONE, seconds=took)
        elif self.stopping:
            self.set(job, PENDING)
        else:
            reason = f"killed by signal {-code}" if code < 0 else last_line(log)
            self.set(job, FAILED, reason=reason, killed=code < 0 or code == INTERRUPTED)
        done = sum(one.entry["status"] == DONE for one in self.jobs)
        told = f"{job.title}  {took:.0f} s  {job.entry['status']} {reason}"
        print(f"[{done}/{len(self.jobs)} done] {told}".strip(), flush=True)


def train_job() -> None:
    """`python train.py` in a process that stops, as at Ctrl-C, when its driver closes its standard input or dies."""

    def watch() -> None:
        os.read(0, 1)
        os.killpg(0, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv[0] = "train.py"
    runpy.run_path("train.py", run_name="__main__")


def last_line(log: Path) -> str:
    """What a log says of its end: its last `error:` line, else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1][:300]
