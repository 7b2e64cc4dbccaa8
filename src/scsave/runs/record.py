"""results.json: everything that a table or a figure may read about a run (schema in docs/results.md)."""

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scsave import __version__
from scsave.files import RESULTS, read_json, write_json
from scsave.metrics.registry import rows
from scsave.protocol import Outcome
from scsave.results.sources import hashes

SCHEMA_VERSION = 1
_PACKAGES = (
    "torch", "lightning", "hydra-core", "anndata", "scanpy", "numpy", "scipy", "scikit-learn", "POT", "torchcfm",
    "torchdiffeq", "scib-metrics",
)  # fmt: skip


def versions() -> dict[str, str]:
    found = {"scsave": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def git_commit() -> str | None:
    """Commit of the source tree, with `+` if it has changes; None outside a repository."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
    options = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True, "timeout": 10}
    try:
        return subprocess.run(command, **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def device_name(accelerator: str) -> str:
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def peak_rss_mb() -> float:
    """Peak resident memory of this process; ru_maxrss is in bytes on macOS, else in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def write_results(folder: Path, outcome: Outcome, run: dict[str, Any]) -> Path:
    """Write `<folder>/results.json`. `run` holds task, data, method, seed, config and split hash, cost."""
    content = {
        "schema": SCHEMA_VERSION, "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(), "git_commit": git_commit(), "sources": hashes(), "metrics": outcome.scores,
        "protocols": outcome.protocols, "info": outcome.info,
        "metric_versions": {name: row.version for name, row in rows(run["registry"]).items()},
    } | run  # fmt: skip
    write_json(folder / RESULTS, content)
    return folder / RESULTS


def also_for(path: Path, experiment: str | None) -> dict[str, Any]:
    """The finished run's results.json at `path`, which an `experiment` that asks for this run again stands in from now on."""
    found = read_json(path)
    names = [found["config"].get("experiment_name"), *found.get("also_for", [])]
    if experiment and experiment not in names:
        found["also_for"] = [*names[1:], experiment]
        write_json(path, found)
    return found
