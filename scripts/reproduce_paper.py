"""Run experiments, whole folders of configs/experiment, with their grids and seeds; then tables, figures and a report.

python scripts/reproduce_paper.py paper ablation [--data DIR] [--only 'paper/pbmc*'] [--seeds 0,1,2] [--workers 2]
    [--launcher submitit_slurm] [--more trainer=gpu] [--dry] [--retry]
make reproduce-paper and make reproduce-small call it (docs/reproducing.md). A job whose folder holds a results.json with
its config hash is done and skipped; a job that was stopped goes on from its checkpoint; state is kept in
<outputs>/reproduce/<name>/state.json.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from scsave.errors import UserError
from scsave.runs.main import INTERRUPTED, entry
from scsave.runs.reproduce.driver import Driver
from scsave.runs.reproduce.jobs import expand, experiments
from scsave.runs.reproduce.pool import Pool
from scsave.runs.reproduce.state import FILE, FOLDER, State

ROOT = Path(__file__).resolve().parents[1]


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", help="folders of configs/experiment, or patterns like 'paper/pbmc*'")
    parser.add_argument("--name", help="of the state below <outputs>/reproduce; default: the first group")
    parser.add_argument("--outputs", default="outputs", help="where runs, state, tables and report go")
    parser.add_argument("--data", help="folder with local data files (paths.data)")
    parser.add_argument("--seeds", default="0,1,2", help="for experiments that name none (default 0,1,2)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="run these experiments only")
    parser.add_argument("--more", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for every job")
    parser.add_argument("--launcher", help="a Hydra launcher: joblib, submitit_slurm, submitit_local, ray")
    parser.add_argument("--launcher-options", nargs="+", default=[], metavar="hydra.launcher.KEY=VALUE")
    parser.add_argument("--workers", type=int, help="jobs at once; default: one a core, 1 with trainer=gpu")
    parser.add_argument("--threads", type=int, default=1, help="threads of each job (default 1)")
    parser.add_argument("--dry", action="store_true", help="list what would run, with estimated times, and run nothing")
    parser.add_argument("--retry", action="store_true", help="run failed jobs again")
    parser.add_argument("--no-report", action="store_true", help="make no tables, figures and report afterwards")
    return parser.parse_args(arguments)


def seeds_of(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: expected numbers with commas between them, like 0,1,2") from None


def launcher_options(name: str, own: list[str]) -> list[str]:
    """Overrides of Hydra's launcher `name`; UserError unless there is one. Each is given one job at a time."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose("train", [f"hydra/launcher={name}"], return_hydra_config=True)
    except HydraException:
        package = f"hydra-{name.split('_')[0]}-launcher"
        raise UserError(f"--launcher {name}: Hydra knows no such launcher here; pip install {package}") from None
    return [*(["hydra.launcher.n_jobs=1"] if "n_jobs" in cfg.hydra.launcher else []), *own]


def default_workers(options: argparse.Namespace) -> int:
    if any(override.startswith("trainer=gpu") for override in options.more) and not options.launcher:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // options.threads)


def reproduce(options: argparse.Namespace) -> int:
    outputs = Path(options.outputs)
    more = list(options.more)
    if options.outputs != "outputs":
        more.append(f"paths.outputs={outputs}")
    if options.data:
        more.append(f"paths.data={os.path.normpath(options.data)}")
    launching = launcher_options(options.launcher, options.launcher_options) if options.launcher else []
    workers = options.workers or default_workers(options)
    jobs = expand(ROOT / "configs", experiments(ROOT / "configs", options.groups), seeds_of(options.seeds), more)
    home = outputs / FOLDER / (options.name or options.groups[0].split("/")[0])
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / ".lock", timeout=0):
            driver = Driver(jobs, State(home / FILE, jobs), outputs, options.only, options.retry)
            if options.dry:
                driver.plan(workers)
                return 0
            driver.leave_out()
            driver.state.save()
            pool = Pool(ROOT, workers, options.threads, options.launcher, launching)
            code = driver.run(pool)
            if code in (0, 1) and not options.no_report:
                code = max(code, driver.publish(ROOT))
            return code
    except Timeout:
        raise UserError(f"{home}: another reproduction of that name is running") from None


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(ROOT)  # paths of the configs are relative to the repository
    try:
        raise SystemExit(reproduce(parsed(sys.argv[1:])))
    except KeyboardInterrupt:  # before a job runs, or while pages are made
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    entry(main)
