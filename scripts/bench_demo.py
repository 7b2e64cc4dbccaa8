"""The demo against its limits: wall time, peak memory, and cells that look like cells (`make bench-demo`).

python scripts/bench_demo.py                 runs `python train.py` and judges it
python scripts/bench_demo.py <run dir> ...   judges runs that are there, mean and sd over them
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
MINUTES, MEGABYTES = 5, 2048


def run_demo(seed: int = 0) -> tuple[Path, float]:
    """Folder of a fresh demo run and its wall seconds."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "train.py", f"seed={seed}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    print(done.stdout)
    line = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("results: "))
    return ROOT / Path(line.removeprefix("results: ")).parent, time.perf_counter() - started


def judged(results: dict) -> dict[str, tuple[float, str, bool]]:
    """What is asked of the demo: name -> (value, limit in words, met)."""
    ours, real = results["metrics"]["scsave"]["all"], results["metrics"]["real"]["all"]
    w1, label = ours["w1"] / real["w1"], ours["label_accuracy"] / real["label_accuracy"]
    return {
        "w1 / real": (w1, "at most 1.15", w1 <= 1.15),
        "c2st_auc": (ours["c2st_auc"], "at most 0.75", ours["c2st_auc"] <= 0.75),
        "zero_fraction_diff": (ours["zero_fraction_diff"], "within 0.03", abs(ours["zero_fraction_diff"]) <= 0.03),
        "variance_ratio": (ours["variance_ratio"], "0.8 to 1.25", 0.8 <= ours["variance_ratio"] <= 1.25),
        "gene_mean_pearson": (ours["gene_mean_pearson"], "at least 0.98", ours["gene_mean_pearson"] >= 0.98),
        "label_accuracy / real": (label, "at least 0.9", label >= 0.9),
        "peak memory, MB": (
            results["cost"]["peak_rss_mb"],
            f"below {MEGABYTES}",
            results["cost"]["peak_rss_mb"] < MEGABYTES,
        ),
    }


def main() -> int:
    folders = [Path(a) for a in sys.argv[1:]]
    seconds = None
    if not folders:
        folder, seconds = run_demo()
        folders = [folder]
    rows = [judged(json.loads((folder / "results.json").read_text())) for folder in folders]
    table = Table(title=f"demo against its limits, {len(rows)} run(s)", title_justify="left")
    for column in ("what", "measured", "asked", "met"):
        table.add_column(column)
    for name, (_, limit, _) in rows[0].items():
        values = [row[name][0] for row in rows]
        sd = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        met = sum(row[name][2] for row in rows)
        table.add_row(name, f"{statistics.mean(values):.3f}{sd}", limit, f"{met} of {len(rows)}")
    if seconds is not None:
        table.add_row("wall time, s", f"{seconds:.0f}", f"at most {60 * MINUTES}", str(seconds <= 60 * MINUTES))
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
