"""What the paper reports (arXiv 2604.16776, tables 1 to 7), which of our numbers stands beside which of its, and what can be
said today of each of its tables (docs/paper.md): run here, run small, or not run and why."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import pandas as pd

from scsave import keys

# The paper's name -> ours. Its WD and MMD leave open which space, which projection and which kernels: W1, and the
# biased MMD of CFGen's code, are the readings that fit (docs/evaluation.md).
METRICS = {"wd": "w1", "mmd": "mmd2_rbf", "scib": "total", "pcc": "pcc", "r2": "r2"}
METHODS = {
    "SAVE": "save",
    "Scanorama": "scanorama",
    "Harmony": "harmony",
    "scVI": "scvi",
    "scGen": "latent_shift",
    "no change": "no_change",
}
SPLITS = {"test": "random", "seen": "random", "unseen": "unseen", "all": "all", "leave-one-type-out": "leave_out"}
SMALL = "small/"  # few cells, genes and steps: no reproduction, so no number of the paper stands beside it
GROUPS = {"CD8T": ("CD8 T cells", "CD8 T")}  # a "split" that is one cell type: its names in the files there are
# Rows of SAVE itself in another setting: the run's experiment, and settings that it must have.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "SAVE without gene block attention": ("paper/without_attention", {}),
    "SAVE K=1": ("paper/block_gene", {}),
    "SAVE K=1600": ("paper/block_size", {"blocking.block_size": 1600}),
    "SAVE K=3200": ("paper/block_size", {"blocking.block_size": 3200}),
    "SAVE K=5600": ("paper/block_size", {"blocking.block_size": 5600}),
}


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One number of the paper. `metric` is ours where there is one, else the paper's word (`train_minutes`)."""

    table: int
    task: str  # ours; the ablations are of generation
    data: str
    split: str  # name of our split
    groups: tuple[str, ...]  # names that its group may have in results.json
    method: str  # the paper's name of the row
    row: str | None  # our row, None where nothing here is its like
    metric: str
    value: float
    note: str
    experiment: str | None  # rows of another setting: only runs of this experiment compare
    settings: Mapping[str, Any]


@lru_cache(maxsize=1)
def reported() -> tuple[Reported, ...]:
    """Every number of `paper_numbers.csv`, in its order."""
    text = files("scsave.results").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    return tuple(_reported(line) for line in csv.DictReader(text.splitlines()))


def _reported(line: dict[str, str]) -> Reported:
    experiment, settings = SETTINGS.get(line["method"], (None, {}))
    groups = GROUPS.get(line["split"])
    return Reported(
        table=int(line["table"]), task="generation" if line["task"] == "ablation" else line["task"],
        data=line["dataset"], split="leave_out" if groups else SPLITS[line["split"]], groups=groups or (keys.ALL,),
        method=line["method"], row="save" if experiment else METHODS.get(line["method"]),
        metric=METRICS.get(line["metric"], line["metric"]), value=float(line["value"]), note=line["note"],
        experiment=experiment, settings=settings,
    )  # fmt: skip


def matching(
    *, task: str, data: str, split: str, metric: str | None = None, group: str | None = keys.ALL
) -> list[Reported]:
    """The paper's numbers on one data set and split, all methods; `metric` and `group` are ours, None takes all."""
    return [
        one
        for one in reported()
        if (one.task, one.data, one.split) == (task, data, split)
        and metric in (None, one.metric)
        and (group is None or group in one.groups)
    ]


def fits(one: Reported, experiment: str | None, config: Mapping[str, Any]) -> bool:
    """Whether a run of this experiment and config is in the setting that the number was reported for.

    A mean over cell types is held against runs that hold out every type in turn.
    """
    if one.split == "leave_out" and keys.ALL in one.groups and _at(config, "task.hold_out") not in (None, keys.ALL):
        return False
    if one.experiment is None:
        return True
    return experiment == one.experiment and all(_at(config, key) == value for key, value in one.settings.items())


def place(runs: pd.DataFrame, values: pd.DataFrame, metric: str, group: str) -> dict[str, Reported]:
    """The paper's numbers of a column by the row that each stands beside; rows that only the paper has end `as reported`.

    `runs` are those of the column, `values` its values (`scsave.results.tables.Table`). A number of another setting stands
    beside rows of a run in that setting; the others, where a row has several variants, beside those of the paper's experiments.
    """
    first, found = runs.iloc[0], {}
    if (first["experiment"] or "").startswith(SMALL):
        return {}
    for one in matching(task=first["task"], data=first["data"], split=first["split"], metric=metric, group=group):
        if one.experiment is None and not fits(one, None, first["config"]):
            continue
        ours = values[values["row"] == one.row]
        experiments = runs.loc[ours["run"], "experiment"].fillna("").to_numpy()
        if one.experiment is not None:
            configs = runs.loc[ours["run"], "config"]
            there = [fits(one, name, config) for name, config in zip(experiments, configs, strict=True)]
        elif ours["label"].nunique() > 1:
            other = {experiment for experiment, _ in SETTINGS.values()}
            there = [name.startswith("paper/") and name not in other for name in experiments]
        else:
            there = [True] * len(ours)
        found = dict.fromkeys(ours["label"][there], one) | found
        if not any(there) and one.experiment is None:
            found[f"{one.method}, as reported"] = one
    return found


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def paper_text(number: int, spec: Mapping[str, Any], recorded: Mapping[str, pd.DataFrame], link: str) -> str:
    """A table of the paper: its numbers, and of each of its data sets and settings what the records hold."""
    ours = [one for one in reported() if one.table == number]
    lines = ["| data set | metric | the paper: SAVE | the paper: others | today |", "| --- | --- | --- | --- | --- |"]
    for (_, said, metric), ones in groupby(ours and sorted(ours, key=_place), key=_place):
        group = list(ones)
        saves = {one.method.removeprefix("SAVE").strip(): one.value for one in group if one.method.startswith("SAVE")}
        save = ", ".join(f"{value:g}" + f" ({setting})" * bool(setting) for setting, value in saves.items())
        others = ", ".join(f"{one.method} {one.value:g}" for one in group if not one.method.startswith("SAVE"))
        mine = next((one for one in group if one.method.startswith("SAVE")), group[0])
        lines.append(f"| {said} | {metric} | {save or '–'} | {others or '–'} | {today(mine, spec, recorded, link)} |")
    return "\n".join(lines) + "\n"


def _place(one: Reported) -> tuple[str, str, str]:
    group = "" if keys.ALL in one.groups else f", {one.groups[-1]}"
    split = {"unseen": ", unseen together", "leave_out": ", each type held out"}.get(one.split, "") if not group else ""
    return one.data, f"`{one.data}`{split}{group}", one.metric


def today(one: Reported, spec: Mapping[str, Any], recorded: Mapping[str, pd.DataFrame], link: str) -> str:
    """`run here`, where a record holds a run in the paper's setting; `run small`, in another setting; else `not run`, why."""
    small, unscored = [], []
    for name, runs in recorded.items():
        for _, run in runs[(runs["data"] == one.data) & (runs["task"] == one.task)].iterrows():
            value = run["scores"][run["headline"]].get(one.row, {}).get(one.groups[0], {}).get(one.metric)
            if value is None:
                unscored.append(name)
                continue
            if str(run["experiment"]).startswith("paper/") and fits(one, run["experiment"], run["config"]):
                return f"run here: {value:.3g} ([{name}]({link}/{name}.json))"
            small.append(name)
    if (small or unscored) and one.experiment is None:
        name = sorted(set(small or unscored))[0]
        how = "other settings than the paper's" if small else "in other settings, and the record lacks this metric"
        return f"run small: {how} ([{name}]({link}/{name}.json))"
    needs = " and ".join(["a GPU at full width", *spec["sets"].get(one.data, {}).get("needs", [])])
    return f"not run: needs {needs}"
