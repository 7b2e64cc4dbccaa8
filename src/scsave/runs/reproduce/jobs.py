"""Experiments to jobs: the grid and the seeds of each file of configs/experiment, one composed config a job."""

from __future__ import annotations

import copy
import fnmatch
import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from scsave.errors import UserError
from scsave.results.frame import FILE as RESULTS
from scsave.runs.main import config_hash, method_name, one_line, register_resolvers, run_dir

SHARED = {"defaults"}  # files that others build on, no experiments of their own; so are those in a folder `base`


@dataclass(frozen=True)
class Job:
    """One run of train.py: the overrides that make it, and its composed config."""

    experiment: str
    overrides: tuple[str, ...]
    cfg: DictConfig

    @cached_property
    def hash(self) -> str:
        return config_hash(self.cfg)

    @cached_property
    def folder(self) -> Path:
        return Path(self.cfg.paths.outputs) / run_dir(self.cfg)

    @property
    def seed(self) -> int:
        return self.cfg.seed

    @property
    def method(self) -> str:
        return method_name(self.cfg)

    @property
    def command(self) -> str:
        return shlex.join(["python", "train.py", *self.overrides])

    @property
    def title(self) -> str:
        """The experiment and the settings of its grid."""
        settings = (o for o in self.overrides if not o.startswith(("experiment=", "paths.")))
        return " ".join([self.experiment, *settings])

    def results(self) -> dict | None:
        """The run's results.json; None where there is none with this job's hash."""
        try:
            found = json.loads((self.folder / RESULTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if found.get("config_hash") == self.hash else None


def experiments(configs: Path, groups: list[str]) -> list[str]:
    """Names below configs/experiment of each group, a folder (`paper`) or a pattern (`paper/pbmc*`), in order."""
    root = configs / "experiment"
    names = sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))
    names = [name for name in names if Path(name).name not in SHARED and "base" not in Path(name).parts]
    found: list[str] = []
    for group in groups:
        chosen = [name for name in names if name.startswith(f"{group}/") or fnmatch.fnmatch(name, group)]
        if not chosen:
            raise UserError(f"{group}: no such experiment; there are: {', '.join(names)}")
        found += [name for name in chosen if name not in found]
    return found


def expand(configs: Path, names: list[str], seeds: list[int], more: list[str]) -> list[Job]:
    """Every job of the experiments. `seeds` are for files that name none; `more` overrides hold for all jobs.

    A grid is the file's own `hydra.sweeper.params`, read as `python train.py -m` reads it. UserError names the file that
    does not compose.
    """
    register_resolvers()
    jobs = []
    with initialize_config_dir(str(configs.resolve()), version_base="1.3"):
        for name in names:
            try:
                jobs += _jobs(name, seeds, more)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"experiment={name}: {one_line(error)}") from error
    return jobs


def _jobs(name: str, seeds: list[int], more: list[str]) -> list[Job]:
    first = f"experiment={name}"
    grid = dict(compose("train", [first, *more], return_hydra_config=True).hydra.sweeper.params or {})
    own = grid.pop("seed", None)
    parse = OverridesParser.create().parse_overrides
    points = BasicSweeper.split_arguments(parse([f"{key}={value}" for key, value in grid.items()]), None)[0]
    if own is not None:
        seeds = [int(point[0].split("=")[1]) for point in BasicSweeper.split_arguments(parse([f"seed={own}"]), None)[0]]
    jobs = []
    for point in points:
        cfg = compose("train", [first, *point, *more])
        for seed in seeds:
            one = copy.deepcopy(cfg)
            one.seed = seed
            jobs.append(Job(name, (first, *point, f"seed={seed}", *more), one))
    return jobs
