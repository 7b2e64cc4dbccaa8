"""The end of a sweep: one table of all its jobs. A callback of Hydra (configs/hydra/default.yaml); imports nothing heavy."""

import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_LIST = "SCSAVE_SWEEP"  # variable that names the file to which jobs, which may be other processes, add their results


class OneTable(Callback):
    """Prints the results of the jobs of a sweep, those that were done before as well, as one table a task."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        path = Path(config.paths.outputs).absolute() / f".sweep-{os.getpid()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        os.environ[_LIST] = str(path)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        path = Path(os.environ.pop(_LIST, ""))
        if not path.is_file():
            return
        results = sorted({Path(line) for line in path.read_text(encoding="utf-8").splitlines()})
        path.unlink()
        if len(results) > 1:
            from scsave.runs.console import print_sweep

            print_sweep(results)


def done(results: Path) -> None:
    """One more job of the sweep has results; nothing outside of one."""
    if path := os.environ.get(_LIST):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{results.absolute()}\n")
