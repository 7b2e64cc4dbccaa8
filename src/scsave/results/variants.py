"""What the rows of a table are called: a method's name, with the settings that tell its variants apart."""

from __future__ import annotations

from pathlib import Path

from scsave.results.collect import Result
from scsave.results.comparable import Bench
from scsave.results.settings import Flat, differing, told, variant

MOST_KEYS = 3  # a label with more settings is nobody's name: the experiment's is taken, else a number


def suffixes(benches: list[Bench]) -> tuple[dict[Path, str], list[str]]:
    """(results.json -> what stands behind the method's name, notes).

    "" where no column has two variants of the method. Settings may then still differ between data sets: a note says so.
    """
    found: dict[Path, str] = {}
    notes: list[str] = []
    for method in _methods(benches):
        groups = _groups(benches, method)
        flats = {result.path: variant(result) for group in groups for result in group}
        keys = _keys(groups)
        if not keys:
            found |= dict.fromkeys(flats, "")
            if others := differing(flats.values()):
                shown = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
                notes.append(f"{method}: settings differ between data sets ({shown})")
        elif len(keys) <= MOST_KEYS:
            found |= {path: told(flat, keys) for path, flat in flats.items()}
        elif names := _experiments(groups, flats, keys):
            found |= names
        else:
            numbered, lines = _numbered(method, groups, flats, keys)
            found |= numbered
            notes += lines
    return found, notes


def named(benches: list[Bench]) -> bool:
    """Whether every row can be named by its settings."""
    return not any(_keys(_groups(benches, method))[MOST_KEYS:] for method in _methods(benches))


def _methods(benches: list[Bench]) -> list[str]:
    return list(dict.fromkeys(result.method for bench in benches for result in bench.results))


def _groups(benches: list[Bench], method: str) -> list[list[Result]]:
    return [[result for result in bench.results if result.method == method] for bench in benches]


def _keys(groups: list[list[Result]]) -> list[str]:
    """Settings that differ within a column."""
    return list(dict.fromkeys(key for group in groups for key in differing([variant(result) for result in group])))


def _tell(flat: Flat, keys: list[str]) -> str:
    return repr([flat.get(key) for key in keys])


def _experiments(groups: list[list[Result]], flats: dict[Path, Flat], keys: list[str]) -> dict[Path, str]:
    """Names of experiments, where they tell the variants of every column apart; else {}."""
    for group in groups:
        pairs = {(result.experiment_name, _tell(flats[result.path], keys)) for result in group}
        names = [name for name, _ in pairs]
        if None in names or len(set(names)) != len(pairs):
            return {}
    return {result.path: str(result.experiment_name) for group in groups for result in group}


def _numbered(
    method: str, groups: list[list[Result]], flats: dict[Path, Flat], keys: list[str]
) -> tuple[dict[Path, str], list[str]]:
    order = list(dict.fromkeys(_tell(flats[r.path], keys) for group in groups for r in group))
    names = {r.path: f"[{order.index(_tell(flats[r.path], keys)) + 1}]" for group in groups for r in group}
    lines = []
    for number, tell in enumerate(order, 1):
        first = next(r for group in groups for r in group if _tell(flats[r.path], keys) == tell)
        lines.append(f"{method} [{number}]: `{first.command or first.path}`")
    lines.append(f"the settings of {method} that differ: {', '.join(keys)}")
    return names, lines
