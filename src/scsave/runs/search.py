"""Optuna search: where a study is kept, its name, how many trials are left, and a sampler that can be interrupted."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from scsave.runs.naming import config_hash

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

FILE = "study.db"
_SQLITE = "sqlite:///"
_FINISHED = """
    SELECT COUNT(*) FROM trials JOIN studies USING (study_id)
    WHERE studies.study_name = ? AND trials.state = 'COMPLETE'
"""


def study_storage(folder: str) -> str:
    """URL of `<folder>/study.db`, for SQLAlchemy, which makes the file but not its folder."""
    path = Path(folder).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return f"{_SQLITE}{path / FILE}"


def study_name(_root_: DictConfig) -> str:
    """`<task>/<data>/<metric>/<hash>`: one study for each set of fixed settings, whatever else is in the file."""
    return f"{_root_.task.name}/{_root_.data.name}/{_root_.sweep_metric}/{config_hash(_root_)}"


def trials_left(wanted: int, _root_: DictConfig) -> int:
    """`wanted` less the finished trials of the sweeper's study; a trial that failed or was killed does not count."""
    sweeper = _root_.hydra.sweeper
    path = Path(sweeper.storage.removeprefix(_SQLITE))
    if not sweeper.storage.startswith(_SQLITE) or not path.is_file():
        return wanted
    with closing(sqlite3.connect(path)) as file:
        try:
            (finished,) = file.execute(_FINISHED, (sweeper.study_name,)).fetchone()
        except sqlite3.OperationalError:  # killed before the tables were made
            return wanted
    return max(0, wanted - finished)


def tpe(seed: int = 0, **options: Any) -> BaseSampler:
    """Optuna's `TPESampler(**options)`, seeded anew for each trial and parameter by the seed and the trial's number.

    A sampler with one stream of random numbers begins it again when a search is started again, and so tries the first
    settings twice. TypeError for an unknown option.
    """
    from optuna.samplers import BaseSampler, TPESampler

    def sampler(*key: int) -> TPESampler:
        drawn = np.random.SeedSequence((seed, *key)).generate_state(1)[0]
        return TPESampler(seed=int(drawn), **options)

    class Seeded(BaseSampler):
        def infer_relative_search_space(self, study, trial):
            return sampler(trial.number).infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return sampler(trial.number).sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            own = sampler(trial.number, zlib.crc32(param_name.encode()))
            return own.sample_independent(study, trial, param_name, param_distribution)

    sampler(0)  # an unknown option is an error now
    return Seeded()
