"""Which rows of a table differ by more than noise: paired over groups (cell types, perturbations), or over seeds."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from scsave import keys
from scsave.results.tables import Table
from scsave.stats.agreement import bootstrap_interval

FEWEST_GROUPS = 5  # fewer say next to nothing of their spread
SEED = 0  # of the bootstrap: a verdict is the same each time
ONE_SEED = "of one seed, which leaves out how trainings differ"
PARTS = "parts"  # info: the groups that a group made for a page is the mean of


class Noise(NamedTuple):
    within: bool | None  # None: not known
    by: str  # what the noise was estimated from


UNKNOWN = Noise(None, "one seed and no groups")


def between(table: Table, number: int, one: str, other: str) -> Noise:
    """Whether two rows of a column are within noise of each other, that is, the 95% interval of their difference holds 0.

    The difference is of how far each is from the metric's best. Where both rows have values of the same five groups or
    more, the interval is a bootstrap over groups, each the mean over seeds; else Student's over the seeds that both have.
    """
    groups = [_groups(table, number, row) for row in (one, other)]
    both = groups[0].index.intersection(groups[1].index)
    if len(both) >= FEWEST_GROUPS:
        apart = (groups[0][both] - groups[1][both]).to_numpy()
        low, high = bootstrap_interval(apart, SEED)
        single = {len(_values(table, number, row)["seed"].unique()) for row in (one, other)} == {1}
        return Noise(bool(low <= 0 <= high), f"bootstrap over {len(both)} groups" + f" {ONE_SEED}" * single)
    seeds = [_seeds(table, number, row) for row in (one, other)]
    both = seeds[0].index.intersection(seeds[1].index)
    if len(both) < 2:
        return UNKNOWN
    from scipy.special import stdtrit

    apart = (seeds[0][both] - seeds[1][both]).to_numpy()
    half = stdtrit(len(apart) - 1, 0.975) * apart.std(ddof=1) / np.sqrt(len(apart))
    return Noise(
        bool(abs(apart.mean()) <= half), f"a paired t over {len(both)} seeds{', which is little' * (len(both) < 3)}"
    )


def _values(table: Table, number: int, row: str) -> pd.DataFrame:
    found = table.values
    return found[(found["number"] == number) & (found["label"] == row) & found["value"].notna()]


def _seeds(table: Table, number: int, row: str) -> pd.Series:
    """How far the row is from the best value, by seed."""
    found, metric = _values(table, number, row), table.columns[number].metric
    return pd.Series([metric.sort_key(value) for value in found["value"]], index=list(found["seed"]), dtype=float)


def _groups(table: Table, number: int, row: str) -> pd.Series:
    """The same by the groups that the column is a mean over, mean over seeds; empty where it is no mean over groups."""
    column, found = table.columns[number], _values(table, number, row)
    if column.metric.aggregate != "mean":
        return pd.Series(dtype=float)
    lines = [
        (group, column.metric.sort_key(scores.get(column.metric.name)))
        for line in found.itertuples()
        for group, scores in units(table.runs.loc[line.run], table.protocol, line.row, column.group).items()
    ]
    values = pd.DataFrame(lines, columns=["group", "value"]).astype({"value": float})
    return values[np.isfinite(values["value"])].groupby("group")["value"].mean()


def units(run: pd.Series, protocol: str, row: str, group: str) -> dict[str, dict[str, float]]:
    """Scores of each part that a group of a run is the mean over: perturbations, or groups of results.json."""
    if "per_perturbation" in run["info"]:
        of, known = run["info"].get("group_of", {}), run["info"]["per_perturbation"].get(row, {})
        return {name: known[name] for name in known if group in (keys.ALL, of.get(name))}
    there = run["scores"].get(protocol, {}).get(row, {})
    parts = run["info"].get(PARTS, {})
    names = parts.get(group, [name for name in there if name not in (keys.ALL, keys.POOLED, *parts)])
    return {name: there[name] for name in names if name in there} if group in (keys.ALL, *parts) else {}
