"""What can be said today of each table of the paper (docs/paper.md): run here, run small, or not run and why."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pandas as pd

from scsave import keys
from scsave.results.paper import Reported, fits, reported


def paper_text(number: int, spec: Mapping[str, Any], recorded: Mapping[str, pd.DataFrame], link: str) -> str:
    """A table of the paper: its numbers, and of each of its data sets and settings what the records hold."""
    ours = [one for one in reported() if one.table == number]
    lines = ["| data set | metric | the paper: SAVE | the paper: others | today |", "| --- | --- | --- | --- | --- |"]
    for (_, said, metric), ones in groupby(ours and sorted(ours, key=_place), key=_place):
        group = list(ones)
        save = ", ".join(_said(one, "SAVE") for one in group if one.method.startswith("SAVE"))
        others = ", ".join(f"{one.method} {one.value:g}" for one in group if not one.method.startswith("SAVE"))
        mine = next((one for one in group if one.method.startswith("SAVE")), group[0])
        lines.append(f"| {said} | {metric} | {save or '–'} | {others or '–'} | {today(mine, spec, recorded, link)} |")
    return "\n".join(lines) + "\n"


def _place(one: Reported) -> tuple[str, str, str]:
    group = "" if keys.ALL in one.groups else f", {one.groups[-1]}"
    split = {"unseen": ", unseen together", "leave_out": ", each type held out"}.get(one.split, "") if not group else ""
    return one.data, f"`{one.data}`{split}{group}", one.metric


def _said(one: Reported, name: str) -> str:
    setting = one.method.removeprefix(name).strip()
    return f"{one.value:g}" + f" ({setting})" * bool(setting)


def today(one: Reported, spec: Mapping[str, Any], recorded: Mapping[str, pd.DataFrame], link: str) -> str:
    """`run here`, where a record holds a run in the paper's setting; `run small`, in another setting; else `not run`, why."""
    small = []
    for name, runs in recorded.items():
        for _, run in runs[(runs["data"] == one.data) & (runs["task"] == one.task)].iterrows():
            value = run["scores"][run["headline"]].get(one.row, {}).get(one.groups[0], {}).get(one.metric)
            papers = value is not None and str(run["experiment"]).startswith("paper/")
            if papers and fits(one, run["experiment"], run["config"]):
                return f"run here: {value:.3g} ([{name}]({link}/{name}.json))"
            small.append(name)
    if small and one.experiment is None:
        name = sorted(set(small))[0]
        return f"run small: other settings than the paper's ([{name}]({link}/{name}.json))"
    needs = " and ".join(["a GPU at full width", *spec["sets"].get(one.data, {}).get("needs", [])])
    return f"not run: needs {needs}"
