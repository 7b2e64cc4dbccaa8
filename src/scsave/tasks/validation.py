"""What a sweep may optimise: scores on validation cells, or on training types held out in turn, never on test cells."""

import copy
import itertools
import math

import numpy as np
from anndata import AnnData

from scsave import keys
from scsave.data.splits.split import Split
from scsave.errors import UserError, listed
from scsave.metrics.response import change_scores, mean_scores, split_control
from scsave.metrics.row import Metric
from scsave.protocol import Context, Method, Task
from scsave.stats.agreement import means_of
from scsave.stats.moments import mean_expression
from scsave.tasks.base import targets_and_types

FEWEST = 2  # cells that a score needs


def check_sweep_metric(name: str, task: Task, method: Method) -> Metric:
    """The metric; UserError, before anything is trained, for one that the task has no validation score of."""
    known = task.validation_metrics(method)
    if name not in known:
        raise UserError(f"sweep_metric={name}: task={task.name} has no such validation score; it has: {listed(known)}")
    return known[name]


def loss(metric: Metric, scores: dict[str, float]) -> float:
    """The metric as a number that is best when smallest: value, -value or |value - best|. UserError where it has none."""
    value = metric.sort_key(scores[metric.name])
    if not math.isfinite(value):
        raise UserError(
            f"sweep_metric={metric.name}: no value on the validation cells (needs {metric.min_cells or FEWEST} or more): "
            "raise split.val, or take another metric"
        )
    return value


def validation_split(split: Split) -> Split:
    """The validation cells in the place of the test cells, which are in no group. UserError where there are too few."""
    if len(split.val) < FEWEST:
        raise UserError(f"sweep_metric: split {split.name} has {len(split.val)} validation cells; raise split.val")
    groups = {keys.TRAIN: split.train, keys.VAL: np.empty(0, dtype=np.int64), keys.TEST: split.val}
    groups |= {f"{keys.TEST}/{name}": rows for name, rows in split.parts(keys.VAL).items()}
    return Split(groups, split.obs_names, f"validation of {split.name}", dict(split.info))


def held_type_scores(context: Context, targets: list[str]) -> dict[str, float]:
    """Each training type's target cells held out in turn, its mean response predicted from the other types.

    Means and changes of gene means in log1p space, averaged over types; changes crossed over halves of the control cells.
    For methods in closed form: networks would have to be trained anew for each type.
    """
    data, columns = context.data, context.columns
    level, kind = targets_and_types(data, columns)
    train = context.split.train
    found: list[dict[str, float]] = []
    for name, target in itertools.product(sorted(set(kind[train])), targets):
        own = train[kind[train] == name]
        real, control = own[level[own] == target], own[level[own] == columns.control]
        if min(len(real), len(control)) < FEWEST:
            continue
        method = refitted(context, real)
        mean = mean_expression(data[real])  # (G,)
        halves = split_control(data[control].copy(), context.seed)
        for start, other in (halves, halves[::-1]):
            before = mean_expression(start)
            after = before + mean_change(method, start, target, context.seed)
            found.append(mean_scores(mean, after) | change_scores(mean - mean_expression(other), after - before))
    if len(found) < 2 * FEWEST:
        raise UserError("sweep_metric: fewer than two training cell types have cells under control and target")
    return means_of(found)


def refitted(context: Context, held: np.ndarray) -> Method:
    """The method as the training cells less `held` would have made it; those stand in the place of the test cells."""
    split, method = context.split, copy.deepcopy(context.method)
    groups = {keys.TRAIN: np.setdiff1d(split.train, held), keys.VAL: np.empty(0, dtype=np.int64), keys.TEST: held}
    split = Split(groups, split.obs_names, f"training of {split.name}", dict(split.info))
    method.fit(context.data, split, context.columns, context.seed)
    return method


def mean_change(method: Method, control: AnnData, target: str, seed: int) -> np.ndarray:
    """Predicted change, (G,), of the mean of the control cells."""
    if (change := getattr(method, "change_of", None)) is not None:
        return change(control, target)
    return mean_expression(method.respond(control, target, seed, method.routes[0])) - mean_expression(control)
