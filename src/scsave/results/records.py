"""Records: what a table of the documents needs of finished runs, one small file a table (docs/results/README.md)."""

import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from scsave import keys
from scsave.errors import UserError
from scsave.files import write_text
from scsave.metrics.registry import rows as registry_rows
from scsave.results.frame import SCHEMA, TEXTS, fitting, frame, is_no_setting, parsed
from scsave.results.noise import PARTS
from scsave.results.sources import hashes_at

# What tells runs apart, and who compares (comparable.py).
CONFIG = ("task", "data", "split", "method", "trainer", "blocking")
COLUMNS = ("task", "data", "method", "experiment", "seed", "split")  # of a spec's `runs`, in the words of results.json
DIGITS = 6  # significant ones of a score
# Overrides that say where files lie on one machine and what is drawn: no number depends on them.
_LOCAL = ("paths.", "figures=", "hydra/", "hydra.", "logger", "ckpt=", "resume=")


def chosen(runs: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The runs that a spec asks for: its columns of results.json, and `settings` (dotted keys of the config).

    A value is a pattern or a list of them; null in a setting stands for one that is not set, `""` for no experiment. Of two
    runs of one config the newer.
    """
    if runs.empty:
        return runs
    asked = {key: wanted[key] for key in COLUMNS if key in wanted}
    asked |= {f"config.{key}": value for key, value in (wanted.get("settings") or {}).items()}
    found = runs
    for key, value in asked.items():
        found = fitting(found, key, value if isinstance(value, list) else [value])
    return found.sort_values("written", kind="stable").drop_duplicates(["config_hash", "seed", "mode"], keep="last")


def alike(runs: pd.DataFrame, led_on: Callable[[Any], dict[str, str]]) -> pd.DataFrame:
    """Of each method, seed, data set and experiment the runs of the newest's code (`led_on` to what is the same)."""
    kept = []
    for _, same in runs.groupby(["data", "method", "seed", runs["experiment"].fillna("")], sort=False):
        code = [led_on(run) for run in same.itertuples()]
        newest = code[same["written"].argmax()]
        kept += [path for path, one in zip(same.index, code, strict=True) if one == newest]
    return runs.loc[kept]


def others(earlier: pd.DataFrame, runs: pd.DataFrame, led_on: Callable[[Any], dict[str, str]]) -> pd.DataFrame:
    """Earlier runs that stay beside `runs`: of another data set, method or experiment, or of their code and not run again."""
    there = set(runs[["data", "method", "experiment"]].fillna("").itertuples(index=False, name=None))

    def code(run: Any) -> tuple:
        return run.data, run.method, *sorted(led_on(run).items())

    codes = set(map(code, runs.itertuples()))
    again = {(run.seed, one) for run in runs.itertuples() for one in (run.config_hash, setting(run))}

    def stays(run: Any) -> bool:
        other = (run.data, run.method, run.experiment or "") not in there
        return other or (code(run) in codes and not {(run.seed, run.config_hash), (run.seed, setting(run))} & again)

    return earlier[[stays(run) for run in earlier.itertuples()]]


def setting(run: Any) -> str:
    """The experiment and the settings of a run, as a record keeps them."""
    config = {key: _settings(run.config[key], key) for key in CONFIG if key in run.config}
    return json.dumps([run.experiment or "", config], sort_keys=True)


def named(runs: pd.DataFrame, sets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The runs with the names that a spec gives to files: `pbmc_four_studies` for what was read as `data=pbmc` from its file."""
    names = {one["file"]: name for name, one in sets.items() if "file" in one}
    found, data = [], []
    for config, name in zip(runs["config"], runs["data"], strict=True):
        data.append(names.get(Path(str(config["data"].get("path"))).name, name))
        found.append(config | {"data": config["data"] | {"name": data[-1]}})
    return runs.assign(config=found, data=data)


def traced(runs: pd.DataFrame, package: Path) -> pd.DataFrame:
    """The runs with `sources`: their own, else those of their commit in the repository that `package` is in, where it has it."""
    known = {str(one): hashes_at(str(one), package) for one in runs.loc[runs["sources"].isna(), "git_commit"].unique()}
    found = [one or known.get(str(commit)) for one, commit in zip(runs["sources"], runs["git_commit"], strict=True)]
    return runs.assign(sources=found)


def record(runs: pd.DataFrame, table: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a table: what its runs share once, then each run, in the words of results.json.

    `table` is its spec: `metrics`, `rows`, `protocol`, `groups`. Kept are the scores of those, with the parts that a mean is
    over (cell types, perturbations), at six digits; seeds, hashes, costs, versions, commit, command and settings.
    """
    found = [_run(run, table) for _, run in runs.iterrows()]
    found.sort(key=lambda one: (one["data"], one["method"], one["config_hash"], one["seed"], one["written"]))
    common = _shared(found)
    return {"schema": SCHEMA, "common": common, "runs": [_without(one, common) for one in found]}


def _run(run: pd.Series, table: Mapping[str, Any]) -> dict[str, Any]:
    protocol = table.get("protocol") or run["headline"]
    metrics = registry_rows(run["registry"])
    names = [name for name in table["metrics"] if name in metrics]

    def few(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _short(scores[name]) for name in names if name in scores}

    def kept(row: str) -> bool:
        return any(fnmatchcase(row, pattern) for pattern in table.get("rows") or ["*"])

    whole = all(metrics[name].aggregate == "pooled" for name in names) and not table.get("groups")
    info, scores = run["info"], {
        row: {group: few(one) for group, one in groups.items() if group == keys.ALL or not whole}
        for row, groups in run["scores"].get(protocol, {}).items() if kept(row)
    }  # fmt: skip
    more = {key: info[key] for key in ("counts", "group_of") if key in info}
    for key in ("intervals", "per_perturbation"):
        if key in info:
            more[key] = {row: {n: few(one) for n, one in v.items()} for row, v in info[key].items() if kept(row)}
    config = {key: _settings(run["config"][key], key) for key in CONFIG if key in run["config"]}
    return {
        "schema": SCHEMA,
        **{key: run[key] for key in (*TEXTS, "seed", "written", "kind", "git_commit", "device", "cells", "genes")},
        "experiment_name": run["experiment"],
        "command": plain_command(run["command"] or ""),
        "sources": run["sources"],
        "config": config | {"mode": run["mode"]},
        "metrics": scores,
        "info": {"headline_protocol": protocol, **more},
        "cost": {key: _short(value) for key, value in run["cost"].items() if value is not None},
        "versions": run["versions"],
        "metric_versions": {name: run["metric_versions"].get(name, 1) for name in names},
    }


def plain_command(command: str) -> str:
    """A command without what is one machine's: no folders, no absolute path, `data.path=my.h5ad` by its name."""
    words = [word for word in shlex.split(command) if not word.startswith(_LOCAL)]
    pairs = [word.partition("=") for word in words]
    return shlex.join(key + sign + (Path(value).name if value.startswith("/") else value) for key, sign, value in pairs)


def _settings(node: Any, key: str) -> Any:
    """A part of a config without paths and the machine's settings."""
    if isinstance(node, Mapping):
        return {name: _settings(one, name) for name, one in node.items() if not is_no_setting(name)}
    return Path(node).name if isinstance(node, str) and node.startswith("/") else node


def _short(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _shared(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """What all hold alike, at any depth."""
    found = {}
    for key, value in nodes[0].items():
        here = [node.get(key) for node in nodes]
        if all(one == value for one in here):
            found[key] = value
        elif all(isinstance(one, dict) for one in here) and (below := _shared(here)):
            found[key] = below
    return found


def _without(node: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in node.items():
        if key not in common:
            found[key] = value
        elif isinstance(value, dict) and value != common[key]:
            found[key] = _without(value, common[key])
    return found


def _merged(common: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(common[key], node[key]) for key in node if key in common}
    return common | node | both


def write(path: Path, content: Mapping[str, Any]) -> None:
    """A line for each object that holds no other, so that a file is short and its diff shows what changed."""
    write_text(path, _lines(content, "") + "\n")


def _lines(node: Any, indent: str) -> str:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if not any(isinstance(one, dict) for one in below):
        return json.dumps(node, sort_keys=True, allow_nan=False, ensure_ascii=False)
    more = indent + " "
    if isinstance(node, list):
        return "[\n" + ",\n".join(more + _lines(one, more) for one in node) + f"\n{indent}]"
    parts = [f"{more}{json.dumps(key, ensure_ascii=False)}: {_lines(node[key], more)}" for key in sorted(node)]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


def read(path: Path) -> pd.DataFrame:
    """The runs of a record, as `scsave.results.frame.read` gives those of a folder; `path` is `<record>#<number>`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = [_merged(content["common"], run) for run in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: can't be read as a record ({error!r}); run make record RUNS=<runs>") from None
    return frame([parsed(run, f"{path.name}#{number}") for number, run in enumerate(runs)])


def sum_up(runs: pd.DataFrame, groups: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """The runs with further groups, each the unweighted mean of some: `{"four types": [B, NK, ...]}`.

    A run that lacks one of them has no such group. Which those are is kept in `info.parts`.
    """
    parts = {name: list(members) for name, members in groups.items()}

    def more(there: dict[str, dict[str, float]]) -> dict[str, Any]:
        whole = {name: [there[one] for one in members] for name, members in parts.items() if set(members) <= set(there)}
        return there | {name: pd.DataFrame(ones).mean(skipna=False).to_dict() for name, ones in whole.items()}

    scores = [{p: {row: more(one) for row, one in rows.items()} for p, rows in run.items()} for run in runs["scores"]]
    return runs.assign(scores=scores, info=[one | {PARTS: parts} if parts else one for one in runs["info"]])
