"""What one seed of Norman costs, on simulated data of that very shape: 91,205 cells x 5,045 genes, 236 perturbations.

python scripts/bench_norman.py                                     two CPU cores, the default networks
python scripts/bench_norman.py trainer=gpu backbone=save           one GPU, full width
python scripts/bench_norman.py --steps 40 training.flow_steps=8000 more steps timed; any setting of train.py behind it
python scripts/bench_norman.py data=simulated_perturbseq           a small one, to see that it works

It runs `train.py task=perturbation data=simulated_norman` with the steps of each stage cut to `--steps`, everything else
whole (gene choice, response head, latents, prediction of every test perturbation by every route, scores, figures), each in
a process of its own whose peak memory is printed. The steps left out are added at the measured time of a step, passes over
the validation cells at theirs. Drawing and preparing the cells is done once, and not again where they are in the cache.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from scsave.runs.main import register_resolvers

ROOT = Path(__file__).resolve().parents[1]
LIMIT_GB = 24


def timed(command: list[str]) -> tuple[str, float]:
    """Output and wall seconds; ends the script with the command's own words where it fails."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    return done.stdout, time.perf_counter() - started


def plan_of(settings: list[str]) -> DictConfig:
    """The config group `training` as train.py would compose it."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", settings).training


def children_gb() -> float:
    """Largest resident memory of a finished child process."""
    scale = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / scale


def stage_rows(name: str, cost: dict, plan: DictConfig, steps: int) -> tuple[float, list[tuple[str, str]]]:
    """Seconds that the whole stage would have taken beyond the cut one, and its lines of the table."""
    full, rate = plan[f"{name}_steps"], cost[f"{name}_steps_per_second"]
    if rate is None:
        raise SystemExit(f"no step of stage {name} was timed: raise --steps")
    passes, one_pass = full // plan.val_every - 1, cost[f"{name}_validation_seconds"] or 0.0  # the cut run has one
    missing = (full - steps) / rate + max(passes, 0) * one_pass
    size = plan["flow_batch_size" if name == "flow" else "batch_size"]
    return missing, [
        (f"{name}: a step of {size} cells", f"{1e3 / rate:.1f} ms"),
        (f"{name}: a pass over the validation cells", f"{one_pass:.1f} s"),
        (f"{name}: all {full:,} steps", f"{full / rate / 60:.1f} min"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps of each stage that are run and timed")
    asked, settings = parser.parse_known_args()
    base = [] if any(setting.startswith("data=") for setting in settings) else ["data=simulated_norman"]
    prepared, seconds = timed(["scripts/prepare_data.py", *base, *(s for s in settings if s.startswith("data"))])
    rows = [("prepare the cells (once)", f"{seconds:.0f} s"), ("peak memory of that", f"{children_gb():.1f} GB")]
    print(prepared.strip(), flush=True)
    whole = ["task=perturbation", *base, *settings]
    plan = plan_of(whole)
    with tempfile.TemporaryDirectory() as folder:
        _, seconds = timed(
            ["train.py", *whole, f"trainer.limit_steps={asked.steps}", f"training.val_every={asked.steps}",
             f"paths.outputs={folder}"]
        )  # fmt: skip
        found = json.loads(next(Path(folder).rglob("results.json")).read_text())
    cost, total = found["cost"], seconds
    for name in ("autoencoder", "flow"):
        if f"{name}_steps" in cost:
            missing, lines = stage_rows(name, cost, plan, asked.steps)
            rows, total = rows + lines, total + missing
    fitted = cost["seconds_fit"]
    rows += [
        ("training, the cut run", f"{fitted:.0f} s"),
        ("everything else (load, predict, score, draw, write)", f"{seconds - fitted:.0f} s"),
        ("one seed, whole", f"{total / 60:.0f} min"),
        ("peak memory of the run", f"{cost['peak_rss_mb'] / 1024:.1f} GB (asked: under {LIMIT_GB})"),
    ]
    if cost.get("peak_device_mb"):
        rows.append(("peak device memory", f"{cost['peak_device_mb'] / 1024:.1f} GB"))
    title = f"{found['data']}: {found['cells']:,} cells x {found['genes']:,} genes, {found['device']}"
    table = Table(title=title, title_justify="left")
    for column in ("what", "measured"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
