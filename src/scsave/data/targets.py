"""What a target is where several columns say what was done: a drug and its dose, a treatment and its time.

A target has a label, `drugX` where one column says it, else `drugX, dose=10, time=6`; control cells have that of control.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from scsave.data.conditions import Categorical, Conditions, Numeric
from scsave.errors import UserError, listed
from scsave.keys import Columns

# Share of treated cells that may have a value of the control cells in a column bound to the perturbation.
TOLERATED = 0.05
SEEN, INTERPOLATED, EXTRAPOLATED = "seen", "interpolated", "extrapolated"


def written(value: Any) -> str:
    """A value as labels have it: 10.0 is 10."""
    return f"{value:.12g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)


def as_value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def label_of(level: Any, further: dict[str, Any]) -> str:
    """Label of a level and the values of further columns, those in the order of the data set's columns."""
    return ", ".join([written(level), *(f"{name}={written(value)}" for name, value in further.items())])


def labels(obs: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Target of each cell, (N,) object of str; the control level for control cells."""
    level = obs[columns.perturbation].astype(str)
    if not columns.perturbation_columns:
        return level.to_numpy()
    table = obs[columns.perturbation_columns].assign(**{columns.perturbation: level})
    codes = table.groupby([columns.perturbation, *columns.perturbation_columns], observed=True, dropna=False).ngroup()
    first = ~codes.duplicated()
    named = {
        code: columns.control if row[columns.perturbation] == columns.control else label_of(
            row[columns.perturbation], {name: row[name] for name in columns.perturbation_columns})
        for code, row in zip(codes[first], table[first].to_dict("records"), strict=True)
    }  # fmt: skip
    return codes.map(named).to_numpy(dtype=object)


def parsed(label: str, further: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Level of a label, and the values of those of the further columns that it names."""
    found = {}
    for name in reversed(list(further)):
        head, mark, value = label.rpartition(f", {name}=")
        if mark:
            label, found[name] = head, value
    return label, dict(reversed(found.items()))


def bound(obs: pd.DataFrame, columns: Columns, name: str) -> bool:
    """Is a column bound to the perturbation: do treated cells hardly ever have a value that control cells have?"""
    control = (obs[columns.perturbation].astype(str) == columns.control).to_numpy()
    if not control.any() or control.all():
        return False
    return bool(obs[name][~control].isin(obs[name][control].unique()).mean() <= TOLERATED)


def with_targets(columns: Columns, obs: pd.DataFrame) -> Columns:
    """`columns` with the further columns of the perturbation: those named, else the numeric conditions that are bound to it.

    UserError for a named one that is no condition of the data set, or that has another role.
    """
    if columns.perturbation is None or columns.control is None or columns.kind == "genes":
        return replace(columns, perturbation_columns=[])
    free = [n for n in columns.conditions if n not in (columns.perturbation, columns.cell_type, columns.batch)]
    if columns.perturbation_columns is not None:
        if wrong := [name for name in columns.perturbation_columns if name not in free]:
            raise UserError(
                f"data.perturbation_columns: {wrong[0]} is not among data.conditions that have no other role "
                f"({listed(free)}); add it to data.conditions"
            )
        return columns
    numeric = [n for n in free if pd.api.types.is_numeric_dtype(obs[n]) and not pd.api.types.is_bool_dtype(obs[n])]
    return replace(columns, perturbation_columns=[name for name in numeric if bound(obs, columns, name)])


def asked_targets(
    known: Iterable[str], asked: Any, key: str, further: list[str], option: str = "task.target"
) -> list[str]:
    """Those of the `known` labels that `asked` means: None is all, a level all of its combinations, {column: value} those
    that have it, a list any of its entries. UserError for a column or a level that is not there."""
    known = sorted(known, key=_order(further))
    if asked is None:
        return known
    if asked in ([], {}):
        raise UserError(f"{option}={asked}: name what is predicted, or null for all")
    found: list[str] = []
    for one in asked if isinstance(asked, list) else [asked]:
        asked_of = one if isinstance(one, dict) else {key: one}
        wanted = {str(k): written(v) for k, v in asked_of.items()}
        if unknown := [name for name in wanted if name not in (key, *further)]:
            raise UserError(
                f"{option} names {unknown[0]}; the columns of the perturbation are {', '.join([key, *further])} "
                "(data.perturbation_columns=[...] says which are)"
            )
        as_given = {str(k): str(v) for k, v in asked_of.items()}  # a level of text may read 1.0
        fits = [label for label in known if label == wanted.get(key)
                or any(_fits(label, values, key, further) for values in (wanted, as_given))]  # fmt: skip
        if not fits:
            said = wanted[key] if list(wanted) == [key] else ", ".join(f"{k}={v}" for k, v in wanted.items())
            raise UserError(f"{option}={said}: not a level of {key}; levels: {listed(known)}" if not further else
                            f"{option}={said}: no such combination of {', '.join([key, *further])}; there are: "
                            f"{'; '.join(known[:12])}")  # fmt: skip
        found += [label for label in fits if label not in found]
    return found


def _fits(label: str, wanted: dict[str, str], key: str, further: list[str]) -> bool:
    level, named = parsed(label, further)
    return all((level if name == key else named.get(name)) == value for name, value in wanted.items())


def _order(further: list[str]) -> Any:
    def order(label: str) -> tuple:
        level, named = parsed(label, further)
        values = (as_value(named.get(name, "")) for name in further)
        return (level, *((0, v, "") if isinstance(v, float) else (1, 0.0, v) for v in values))

    return order


@dataclass(frozen=True)
class Targets:
    """The targets that training cells have, and how those of numbers in between are read off them.

    `columns` are the further columns as `scsave.data.conditions` codes them; `origin` the values that all control cells
    have in them, None where they have several.
    """

    perturbation: str
    control: str
    labels: tuple[str, ...]
    columns: tuple[Categorical | Numeric, ...] = ()
    origin: tuple[float, ...] | None = None

    @classmethod
    def of(cls, obs: pd.DataFrame, columns: Columns, conditions: Conditions | None = None) -> Targets:
        """Of training cells' `obs`; the coding of the further columns is that of `conditions`, else learnt here."""
        further = columns.perturbation_columns or []
        found = conditions or Conditions.fit(obs, further, spread=further)
        coded = tuple(c for name in further for c in found.columns if c.name == name)
        each = labels(obs, columns)
        control = obs.loc[each == columns.control, further]
        one = len(control) and all(c.kind == "numeric" for c in coded) and (control.nunique(dropna=False) == 1).all()
        origin = tuple(float(v) for v in control.iloc[0]) if further and one else None
        known = sorted(set(each) - {columns.control}, key=_order(further))
        return cls(columns.perturbation, columns.control, tuple(known), coded, origin)

    def to_dict(self) -> dict[str, Any]:
        """As plain types, for a checkpoint."""
        kept = {"perturbation": self.perturbation, "control": self.control, "labels": list(self.labels)}
        return kept | {"columns": Conditions(self.columns).to_list(), "origin": self.origin and list(self.origin)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Targets:
        columns, origin = Conditions.from_list(stored["columns"]).columns, stored["origin"]
        labels = tuple(stored["labels"])
        return cls(stored["perturbation"], stored["control"], labels, columns, origin and tuple(origin))

    @property
    def further(self) -> list[str]:
        return [column.name for column in self.columns]

    def assigned(self, obs: pd.DataFrame, label: str) -> pd.DataFrame:
        """`obs` with the columns of the perturbation as `label` has them; a further one that it does not name is missing."""
        level, named = parsed(label, self.further)
        values = {self.perturbation: pd.Categorical([level] * len(obs))}
        for column in self.columns:
            text = named.get(column.name)
            number = column.kind == "numeric"
            values[column.name] = float(text or "nan") if number else pd.Categorical([text] * len(obs))
        return obs.assign(**values)

    def asked(self, asked: Any, option: str = "target") -> list[str]:
        """Labels that `asked` means: as `asked_targets` of training's, or for one combination in full any numbers."""
        if self.columns:
            entries = asked if isinstance(asked, list) else [asked]
            whole = [self._whole(one) for one in entries]
            return list(dict.fromkeys(
                label for one, new in zip(entries, whole, strict=True)
                for label in ([new] if new else asked_targets(self.labels, one, self.perturbation, self.further, option))
            ))  # fmt: skip
        return asked_targets(self.labels, asked, self.perturbation, [], option)

    def _whole(self, one: Any) -> str | None:
        """The label of an entry that names every column of the perturbation, in either way of writing it."""
        if isinstance(one, dict) and set(one) == {self.perturbation, *self.further}:
            return label_of(one[self.perturbation], {name: one[name] for name in self.further})
        if isinstance(one, str) and set(parsed(one, self.further)[1]) == set(self.further):
            return one
        return None

    def status(self, label: str) -> str:
        """`seen` in training, or its numbers `interpolated` or `extrapolated`. UserError for anything else unknown."""
        if label in self.labels:
            return SEEN
        known, at, _ = self._alike(label)
        inside = ((at >= known.min(0) - 1e-9) & (at <= known.max(0) + 1e-9)).all()
        return INTERPOLATED if inside else EXTRAPOLATED

    def weights(self, label: str) -> dict[str, float]:
        """Weights of training's labels (and of control, whose change is none) that make up the change under `label`.

        In one column that is the straight line between the neighbours, and the last value beyond them; in several the
        interpolation by -|a - b|, which is the same there.
        """
        if label in self.labels:
            return {label: 1.0}
        known, at, names = self._alike(label)
        n = len(names)
        system = np.ones((n + 1, n + 1))
        system[:n, :n], system[n, n] = -np.linalg.norm(known[:, None] - known[None], axis=-1), 0.0
        right = np.append(-np.linalg.norm(known - at, axis=-1), 1.0)
        return dict(zip(names, np.linalg.lstsq(system, right, rcond=None)[0][:n].tolist(), strict=True))

    def _alike(self, label: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Coded numbers of training's labels that differ from `label` in numbers alone, and of control where it has some,
        (R, m), of `label`, (m,), and the names of the R."""
        level, named = parsed(label, self.further)
        known = {name: parsed(name, self.further) for name in self.labels}
        text, numbers = ([c.name for c in self.columns if (c.kind == "numeric") is kind] for kind in (False, True))
        alike = [n for n, (of, one) in known.items() if of == level and all(one.get(c) == named.get(c) for c in text)]
        if not alike or (lost := [name for name in self.further if name not in named]):
            if level not in (levels := dict.fromkeys(of for of, _ in known.values())) or not self.columns:
                levels = listed(levels)
                raise UserError(f"target={level}: training saw no such level of {self.perturbation}; it saw: {levels}")
            lacks = f" lacks {', '.join(lost)}" if alike else ""
            raise UserError(
                f"target={label}{lacks}: not a combination of {', '.join([self.perturbation, *self.further])} that training "
                f"saw; it saw: {'; '.join(self.labels[:12])}"
            )
        if not numbers:
            seen = "; ".join(self.labels[:12])
            raise UserError(f"target={label}: not a combination that training saw; it saw: {seen}")
        values = {name: known[name][1] for name in alike}
        if self.origin is not None:
            values[self.control] = dict(zip(self.further, self.origin, strict=True))
        return np.array([self._coded(one) for one in values.values()]), self._coded(named), list(values)

    def _coded(self, values: dict[str, Any]) -> np.ndarray:
        """The numeric columns' values on the scale that the networks are told, (m,)."""
        rows = pd.DataFrame({name: [value] for name, value in values.items()})
        return np.array([float(c.encode(rows[c.name])[0]) for c in self.columns if c.kind == "numeric"])
