"""Route `combined`: the mean change of the network and of a closed form, weighted by training strata held out in turn.

The closed form is a regression over cell types (`method=type_process`), for sets of genes a process over them
(`method=set_process`). Source: ours (method.md section 9).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import COMBINED, TRAIN, VAL, Columns
from scsave.method.fitted import Fitted, closed_form
from scsave.stats.agreement import pearson

log = logging.getLogger("scsave")
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the network's change
Changes = Mapping[str, Mapping[str, np.ndarray]]  # stratum -> target -> (G,)


def fit_closed(model: Fitted, train: AnnData, columns: Columns, seed: int) -> None:
    """Fit the closed form on the training cells; without one where these do not let it be fitted, which is said."""
    everything = Split({TRAIN: np.arange(train.n_obs), VAL: np.arange(0)}, train.obs_names.to_numpy(), "training cells")
    model.closed = closed_form(model.nodes, columns.kind)
    try:
        model.closed.fit(train, everything, columns, seed)
    except UserError as error:
        log.warning("no route %s: %s", COMBINED, error)
        model.closed = None


def choose(network: Changes, closed: Changes, truth: Changes) -> tuple[float, dict[str, dict[str, float]]] | None:
    """The weight of the network's change and, under it, the change-PCC of each held-out stratum by target.

    All three are changes of held-out training strata. The weight has the best mean over strata; of equals, the one nearest
    to a half. None where the closed form predicts none of them.
    """
    both = {name: [t for t in own if t in closed.get(name, {})] for name, own in network.items()}
    both = {name: targets for name, targets in both.items() if targets}
    if not both:
        return None

    def scores(weight: float) -> dict[str, dict[str, float]]:
        return {
            name: {t: pearson(truth[name][t], mixed(weight, network[name][t], closed[name][t])) for t in targets}
            for name, targets in both.items()
        }

    def mean(weight: float) -> float:
        return float(np.nanmean([np.nanmean(list(one.values())) for one in scores(weight).values()]))

    best = max(sorted(WEIGHTS, key=lambda weight: abs(weight - 0.5)), key=mean)
    return best, scores(best)


def mixed(weight: float, network: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """`weight` of the network's change and the rest of the closed form's, (G,)."""
    return weight * network + (1 - weight) * closed


def weight_of(model: Fitted) -> float:
    """The weight that training chose. UserError for a model that has none."""
    if model.closed is None or not model.info.get(COMBINED):
        raise UserError(
            f"route={COMBINED}: this model has no closed form beside its network, or too few training strata to weight it by"
        )
    return model.info[COMBINED]["weight"]


def trust_entries(found: Mapping[str, Mapping[str, float]], network: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As `info["trust"]`, of the weighted changes; distances are those of the network's entries."""
    return {
        name: {"pcc": float(np.mean(list(one.values()))), "distance": network[name]["distance"], "targets": dict(one)}
        for name, one in found.items()
    }
