"""Compare two results.json, or two folders of them: the largest difference of each metric, and where it is.

python scripts/compare_results.py before after [--tolerance 1e-5] [--rename scsave=save] [--pair x/scsave/01=x/save/45]
Differences are relative to the first value, absolute below 1. The exit code is 1 above the tolerance, and where a score
stands on one side only. Folders are matched by the paths below them, or by `--pair FIRST=SECOND` (repeatable).
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path


def scores(node: object, rename: dict[str, str], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """(keys, value) of every number below `node`; keys `old` and `old_<more>` are `new` and `new_<more>`."""
    if isinstance(node, dict):
        for key, value in node.items():
            old = next((old for old in rename if key == old or key.startswith(f"{old}_")), "")
            yield from scores(value, rename, (*path, rename.get(old, "") + key.removeprefix(old)))
    else:
        yield path, math.nan if node is None else float(node)


def read(path: Path, rename: dict[str, str]) -> dict[tuple[str, ...], float]:
    path = path / "results.json" if path.is_dir() else path
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(scores({key: found.get(key, {}) for key in ("metrics", "protocols", "validation")}, rename))


def difference(one: float, other: float) -> float:
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other) / max(abs(one), 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="a results.json, the folder that holds one, or a folder of many")
    parser.add_argument("second", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0)
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="rows of the first")
    parser.add_argument("--pair", action="append", default=[], metavar="FIRST=SECOND", help="folders below the two")
    asked = parser.parse_args()
    rename, pairs = (dict(one.split("=", 1) for one in given) for given in (asked.rename, asked.pair))
    names = [str(path.parent.relative_to(asked.first)) for path in sorted(asked.first.rglob("results.json"))]
    files = [[asked.first / one, asked.second / pairs.get(one, one)] for one in names] or [[asked.first, asked.second]]
    worst: dict[str, tuple[float, str]] = {}
    for one, other in files:
        before, after = read(one, rename), read(other, {})
        for path in before | after:
            apart = difference(before[path], after[path]) if path in before and path in after else math.inf
            worst[path[-1]] = max(worst.get(path[-1], (-1.0, "")), (apart, f"{other}: {'/'.join(path)}"))
    for metric, (apart, where) in sorted(worst.items(), key=lambda row: -row[1][0]):
        print(f"{apart:10.3g}  {metric:32s} {where}")
    return int(not worst or any(apart > asked.tolerance for apart, _ in worst.values()))


if __name__ == "__main__":
    raise SystemExit(main())
