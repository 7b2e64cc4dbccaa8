"""Run experiments, whole folders of configs/experiment, with their grids and seeds: `make reproduce-paper` and others.

python scripts/reproduce_paper.py paper ablation [--data DIR] [--only 'paper/pbmc*'] [--seeds 0,1,2] [--workers 2]
    [--launcher submitit_slurm] [--more trainer=gpu hydra.launcher.partition=gpu] [--dry] [--retry]
A job that is done is skipped, one that was stopped goes on from its checkpoint (docs/reproducing.md).
"""

import argparse
import os
import signal
from pathlib import Path

from filelock import FileLock, Timeout
from joblib import cpu_count

from scsave.errors import UserError
from scsave.runs.main import INTERRUPTED, entry
from scsave.runs.reproduce import Driver, expand, experiments

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", help="folders of configs/experiment, or patterns like 'paper/pbmc*'")
    parser.add_argument("--outputs", default="outputs", help="where runs and state go")
    parser.add_argument("--data", help="folder with local data files (paths.data)")
    parser.add_argument("--seeds", default="0,1,2", help="for experiments that name none (default 0,1,2)")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="run these experiments only")
    parser.add_argument("--more", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for every job")
    parser.add_argument("--launcher", help="a Hydra launcher: joblib, submitit_slurm, submitit_local, ray")
    parser.add_argument("--workers", type=int, help="jobs at once (default: one a core, 1 with trainer=gpu)")
    parser.add_argument("--threads", default="1", help="of each job (default 1)")
    parser.add_argument("--dry", action="store_true", help="list what would run and run nothing")
    parser.add_argument("--retry", action="store_true", help="run failed jobs again")
    options = parser.parse_args()
    os.chdir(ROOT)  # paths of the configs are relative to the repository
    os.environ.update(dict.fromkeys(THREADS, options.threads))
    more = [f"paths.outputs={options.outputs}"] * (options.outputs != "outputs")
    more += [f"paths.data={os.path.normpath(options.data)}"] if options.data else []
    more += [f"hydra/launcher={options.launcher}"] * bool(options.launcher)
    more += ["hydra.launcher.n_jobs=1"] * (options.launcher == "joblib") + options.more
    if not options.seeds.replace(",", "").isdigit():
        raise UserError(f"--seeds {options.seeds}: expected numbers with commas between them, like 0,1,2")
    seeds = [int(seed) for seed in options.seeds.split(",") if seed]
    configs, home = ROOT / "configs", Path(options.outputs) / "reproduce" / options.groups[0].split("/")[0]
    jobs = expand(configs, experiments(configs, options.groups), seeds, more)
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / ".lock", timeout=0):
            driver = Driver(jobs, home, ROOT, options.only, options.retry, sweep=bool(options.launcher))
            driver.leave_out(fetch=not options.dry)
            workers = options.workers or (1 if "trainer=gpu" in options.more else cpu_count())
            raise SystemExit(driver.plan() if options.dry else driver.run(workers))
    except Timeout:
        raise UserError(f"{home}: another reproduction of that name is running") from None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        entry(main)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # Ctrl-C before a job runs, or a second one: running jobs save by themselves
