"""Run every job that is not done, keep what became of it, and make tables, figures and the report of all."""

from __future__ import annotations

import fnmatch
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scsave.runs.main import INTERRUPTED
from scsave.runs.reproduce import availability
from scsave.runs.reproduce.estimate import Estimates, spoken
from scsave.runs.reproduce.jobs import RESULTS, Job
from scsave.runs.reproduce.pool import Pool, Task
from scsave.runs.reproduce.state import DONE, FAILED, MISSING, PENDING, RUNNING, State

PAGES = (("make_tables.py", "tables"), ("make_figures.py", "figures"), ("make_report.py", "report.html"))


@dataclass
class Driver:
    """`jobs` as processes of `pool`, their state in `state`; `only` patterns of experiments, all if there are none."""

    jobs: list[Job]
    state: State
    outputs: Path
    only: Sequence[str] = ()
    retry: bool = False
    waiting: list[Job] = field(default_factory=list)
    ended: int = 0

    def __post_init__(self) -> None:
        """Done is what has a results.json with the job's hash, whatever the state file says."""
        for job in self.jobs:
            entry = self.state.of(job)
            if found := job.results():
                seconds = entry.get("seconds") or found.get("cost", {}).get("seconds_total")
                self.state.set(job, DONE, seconds=seconds)
            elif entry["status"] == FAILED and self.retry:
                self.state.set(job, PENDING)
        self.estimates = Estimates(self.state, self.jobs)
        chosen = [job for job in self.jobs if self.state.of(job)["status"] == PENDING and self._chosen(job)]
        self.waiting = list({job.hash: job for job in reversed(chosen)}.values())[::-1]
        # first seeds first, so that an interrupted reproduction has every row once; long jobs first, to end together
        rank = {seed: number for number, seed in enumerate(dict.fromkeys(job.seed for job in self.jobs))}
        self.waiting.sort(key=lambda job: (rank[job.seed], -self.estimates.of(job)[0]))

    def _chosen(self, job: Job) -> bool:
        return not self.only or any(fnmatch.fnmatch(job.experiment, pattern) for pattern in self.only)

    def leave_out(self) -> None:
        """Marks jobs whose data set, gene vectors or package can't be had; each is asked for, and named, once."""
        answers: dict[str, str | None] = {}
        for job in self.waiting[:]:
            for key, ask in availability.questions(job):
                if key not in answers:
                    answers[key] = ask(job)
                if reason := answers[key]:
                    self.state.missing[key] = reason
                    self.state.set(job, MISSING, reason=reason)
                    self.waiting.remove(job)
                    break
        for key, reason in self.state.missing.items():
            jobs = sum(entry["reason"] == reason for entry in self.state.entries.values())
            print(f"not run: {key}, {jobs} jobs: {reason}", flush=True)

    def seconds_left(self, pool_size: int, running: Sequence[Task] = ()) -> float:
        times = [self.estimates.of(job)[0] for job in self.waiting]
        now = time.perf_counter()
        times += [max(self.estimates.of(task.what)[0] - (now - task.started), 0.0) for task in running]
        return max(sum(times) / pool_size, max(times, default=0.0))

    def plan(self, workers: int) -> None:
        """DRY=1: every job that would run, with its time, and the sum."""
        done = self.state.count()[DONE]
        for job in self.waiting:
            seconds, basis = self.estimates.of(job)
            note = availability.here(job) or availability.package(job.cfg.baseline)
            print(f"{spoken(seconds):>8} ({basis}){' (resumes)' if self.resumable(job) else ''}  {job.title}", end="")
            print(f"  [{note}]" if note else "")
        failed = self.state.count()[FAILED]
        total = sum(self.estimates.of(job)[0] for job in self.waiting)
        print(
            f"{len(self.waiting)} jobs would run: about {spoken(total)} of work, {spoken(self.seconds_left(workers))} with "
            f"{workers} at once; {done} done"
            + (f"; {failed} failed before (RETRY=1 runs them again)" if failed else "")
        )

    def run(self, pool: Pool) -> int:
        """Everything that waits; 0, or 1 if a job failed, or 130 after Ctrl-C."""
        total = len(self.waiting)
        if total:
            left = spoken(self.seconds_left(pool.workers))
            print(f"{total} jobs to run, {pool.workers} at once, about {left}", flush=True)
        try:
            while self.waiting or pool.tasks:
                while self.waiting and not pool.full:
                    self.start(pool, self.waiting.pop(0))
                for task in pool.finished():
                    self.finish(task)
                    left = spoken(self.seconds_left(pool.workers, pool.tasks))
                    self.say(task, f"[{self.ended}/{total}]", f"{left} left" if self.waiting or pool.tasks else "")
        except KeyboardInterrupt:
            print(
                "\nstopping: running jobs finish their step and keep a checkpoint (Ctrl-C again: at once)", flush=True
            )
            stopped = [task.what for task in pool.tasks]
            pool.stop()
            for job in stopped:
                self.state.set(job, DONE if job.results() else PENDING)
            self.state.save()
            print("stopped; the same command goes on")
            return INTERRUPTED
        return self.summary()

    def start(self, pool: Pool, job: Job) -> None:
        log = self.state.path.parent / "logs" / f"{job.experiment.replace('/', '-')}-{job.hash}.log"
        arguments = self.arguments(job)
        self.state.set(job, RUNNING, log=str(log), resumed=self.resumable(job))
        self.state.save()
        pool.start(job, arguments, log.resolve())

    def arguments(self, job: Job) -> list[str]:
        """The job's overrides, or `resume=` where a stopped run left something to go on from."""
        if not self.resumable(job):
            return list(job.overrides)
        kept = [o for o in job.overrides if o.startswith(("paths.", "logger"))]
        return [f"resume={job.folder}", f"figures={str(job.cfg.figures).lower()}", *kept]

    def resumable(self, job: Job) -> bool:
        """A checkpoint or a whole fold is there, and the run did not fail of itself: an error would come again."""
        entry = self.state.of(job)
        if not (job.folder / "config.yaml").is_file() or entry.get("killed") is False:
            return False
        patterns = ("checkpoints/*.ckpt", "folds/*/checkpoints/*.ckpt", "folds/*/fold.json")
        return any(True for pattern in patterns for _ in job.folder.glob(pattern))

    def finish(self, task: Task) -> None:
        job, log = task.what, Path(self.state.of(task.what)["log"])
        self.ended += 1
        spent = {"seconds": task.seconds, "cpu_seconds": task.cpu_seconds}
        if task.code == 0 and job.results():
            self.state.set(job, DONE, killed=None, **spent)
        else:
            killed = task.code < 0 or task.code == INTERRUPTED
            reason = f"killed by signal {-task.code}" if task.code < 0 else last_line(log)
            self.state.set(job, FAILED, seconds=None, killed=killed, reason=reason)
        self.state.save()

    def say(self, task: Task, number: str, left: str) -> None:
        entry = self.state.of(task.what)
        told = f"{entry['status']}: {entry['reason']}" if entry["reason"] else entry["status"]
        print(f"{number} {task.what.title}  {spoken(task.seconds)}  {told}  {left}".rstrip(), flush=True)

    def summary(self) -> int:
        failed = [entry for entry in self.state.entries.values() if entry["status"] == FAILED]
        count = self.state.count()
        print(", ".join(f"{count[status]} {status}" for status in (DONE, FAILED, MISSING, PENDING) if count[status]))
        for entry in failed:
            print(f"failed: {entry['command']}\n  {entry['reason']}\n  {entry.get('log')}")
        if failed:
            print(f"{len(failed)} failed: RETRY=1 runs them again")
        self.state.save()
        return 1 if failed else 0

    def publish(self, root: Path) -> int:
        """Tables, figures and report, unless nothing changed since they were made; 1 if one could not be made."""
        made = self.fingerprint()
        wanted = [self.outputs / what for _, what in PAGES]
        if self.state.published == made and all(path.exists() for path in wanted):
            print(f"nothing changed: {wanted[-1]}")
            return 0
        for script, what in PAGES:
            print(f"making {self.outputs / what}", flush=True)
            command = [sys.executable, str(root / "scripts" / script), str(self.outputs)]
            if subprocess.run([*command, "--out", str(self.outputs / what)]).returncode:
                print(f"{script} failed; again with: make {what.removesuffix('.html')}", file=sys.stderr)
                return 1
        self.state.published = made
        self.state.save()
        return 0

    def fingerprint(self) -> str:
        """Changes with every result that comes, goes or is written anew, and with what is missing or failed."""
        lines = []
        for entry in self.state.entries.values():
            path = Path(entry["folder"]) / RESULTS
            written = path.stat().st_mtime_ns if path.is_file() else 0
            lines.append(f"{entry['experiment']} {entry['hash']} {entry['status']} {entry['reason']} {written}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def last_line(log: Path) -> str:
    """What a log says of its end: its last `error:` line, else its last line."""
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
    except OSError:
        return "no log"
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (told or lines or ["no output"])[-1][:300]
