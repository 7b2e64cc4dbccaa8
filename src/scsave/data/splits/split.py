"""The training, validation and test cells of a run: saved beside it and loaded back by cell name."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scsave import keys
from scsave.errors import UserError
from scsave.files import write_text

UNUSED = "unused"
Info = dict[str, Any] | None


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of cells by group: `train`, `val`, `test`; `test/<name>` and `val/<name>` are parts of test and val.

    `obs_names` are the names of all cells, (N,), so that the split has a hash and can be saved by name. Where there
    are parts of test, they are disjoint and make up the whole of it (likewise val).
    """

    groups: dict[str, np.ndarray]
    obs_names: np.ndarray
    name: str
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def train(self) -> np.ndarray:
        return self.groups[keys.TRAIN]

    @property
    def val(self) -> np.ndarray:
        return self.groups[keys.VAL]

    @property
    def test(self) -> np.ndarray:
        return self.groups[keys.TEST]

    def parts(self, group: str = keys.TEST) -> dict[str, np.ndarray]:
        """Named parts of a group, `combo_seen1 -> positions`; empty where it has none."""
        return {name.split("/", 1)[1]: rows for name, rows in self.groups.items() if name.startswith(group + "/")}

    @cached_property
    def labels(self) -> np.ndarray:
        """The most specific group of each cell, `unused` where it is in none, (N,) object."""
        out = np.full(len(self.obs_names), UNUSED, dtype=object)
        for name in sorted(self.groups):  # `test` comes before `test/...`
            out[self.groups[name]] = name
        return out

    @cached_property
    def hash(self) -> str:
        """sha256 over the sorted cell names of each group: the same cells give the same hash in any order."""
        digest = hashlib.sha256()
        names = np.asarray(self.obs_names, dtype=str)
        for group in sorted(self.groups):
            digest.update(f"{group}\n".encode())
            digest.update("\n".join(sorted(names[self.groups[group]])).encode())
        return digest.hexdigest()

    def describe(self) -> str:
        """One line: the sizes of the groups."""
        sizes = ", ".join(f"{group} {len(rows):,}" for group, rows in self.groups.items())
        return f"split {self.name}: {sizes}"

    def save(self, path: Path, obs_names: np.ndarray | None = None) -> None:
        """Two columns, cell and group, every cell once; written beside and renamed."""
        names = self.obs_names if obs_names is None else obs_names
        table = pd.DataFrame({"cell": np.asarray(names, dtype=str), "group": self.labels})
        write_text(Path(path), table.to_csv(index=False))

    @classmethod
    def load(cls, path: Path, obs_names: np.ndarray) -> "Split":
        """The split of a saved file, for cells named `obs_names` in any order; raises UserError on other cells."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"split.path={path}: no such file; give the split.csv of a run")
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:  # empty, no text, or not a table
            raise UserError(f"split.path={path}: not a table ({error}); give the split.csv of a run") from None
        if list(table.columns) != ["cell", "group"]:
            raise UserError(f"{path}: columns are {', '.join(table.columns)}; a split has 'cell' and 'group'")
        names = pd.Index(np.asarray(obs_names, dtype=str))
        twice = table["cell"][table["cell"].duplicated()]
        if len(twice):
            raise UserError(f"{path}: cell {twice.iloc[0]} is listed twice; a cell has one group")
        position = names.get_indexer(table["cell"])
        lost, absent = int((position < 0).sum()), int(len(names) - (position >= 0).sum())
        if lost or absent:
            raise UserError(
                f"{path}: made for other cells: {lost} of its {len(table)} cells are not in the data, {absent} of the "
                f"data's {len(names)} are not in it; use the data and filters that it was made with"
            )
        groups = {group: np.empty(0, dtype=np.int64) for group in (keys.TRAIN, keys.VAL, keys.TEST)}
        for group in sorted(set(table["group"]) - {UNUSED}):
            rows = np.sort(position[(table["group"] == group).to_numpy()])
            top = group.split("/")[0]
            if top not in groups:
                raise UserError(f"{path}: unknown group '{group}'; groups are train, val, test, test/<name>, {UNUSED}")
            groups[group] = rows
            if group != top:
                groups[top] = np.sort(np.concatenate([groups[top], rows]))
        return make_split(groups, names, f"file:{path.name}", {"path": str(path)}, allow_no_test=True)


def make_split(
    groups: dict[str, np.ndarray], obs_names: np.ndarray, name: str, info: Info = None, allow_no_test: bool = False
) -> Split:
    """A checked split: sorted positions, train/val/test disjoint, parts inside their group, none of them empty."""
    groups = {group: np.sort(np.asarray(rows, dtype=np.int64)) for group, rows in groups.items()}
    groups = {group: rows for group, rows in groups.items() if "/" not in group or len(rows)}
    for top in (keys.TRAIN, keys.VAL, keys.TEST):
        groups.setdefault(top, np.empty(0, dtype=np.int64))
    used = np.concatenate([groups[top] for top in (keys.TRAIN, keys.VAL, keys.TEST)])
    if len(np.unique(used)) != len(used):
        raise ValueError(f"split {name}: a cell is in two of train, val and test")
    for top in (keys.VAL, keys.TEST):
        parts = [rows for group, rows in groups.items() if group.startswith(top + "/")]
        if parts and not np.array_equal(np.sort(np.concatenate(parts)), groups[top]):
            raise ValueError(f"split {name}: the parts of {top} do not make it up")
    empty = [top for top in (keys.TRAIN, keys.TEST) if not len(groups[top])]
    if keys.TRAIN in empty or (empty and not allow_no_test):
        raise UserError(
            f"split={name}: the {empty[0]} group is empty ({len(used)} of {len(obs_names)} cells used); "
            "change the split's shares, split.min_cells or what it holds out"
        )
    order = sorted(groups, key=lambda g: ([keys.TRAIN, keys.VAL, keys.TEST].index(g.split("/")[0]), g))
    return Split({g: groups[g] for g in order}, np.asarray(obs_names, dtype=object), name, dict(info or {}))
