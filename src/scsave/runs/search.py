"""Where a search keeps its study, what it is called and how much of it is left: resolvers of configs/sweep."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from omegaconf import DictConfig

from scsave.runs.naming import config_hash

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
