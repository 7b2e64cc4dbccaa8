"""The routes from control cells to cells under another condition, their counterfactual (method.md section 6).

- `between`: the flow from the user's own control cells to treated cells (`scsave.method.between`); the headline;
- `combined`: its mean change and that of a closed form, weighted (`scsave.method.combined`);
- `transfer`: the change that the decoder makes of the mean (decoded as target minus decoded as source), carried over to
  the real control cells;
- `generate`: cells from noise under the target and the control cells' other conditions;
- `translate`: the flow run backwards under the source condition and forwards under the target, then decoded and sampled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.baselines.carry import carried_groups
from scsave.data.targets import SEEN, parsed
from scsave.errors import UserError
from scsave.method.between import between
from scsave.method.combined import mixed, weight_of
from scsave.method.fitted import METHOD, Fitted
from scsave.method.sample import generate, translate
from scsave.method.trust import trust_of
from scsave.stats.expected import TRUST, trust_table, unknown

log = logging.getLogger("scsave")


def respond(model: Fitted, control: AnnData, target: str, seed: int, route: str) -> AnnData:
    """The cells of `control` (prepared, the model's genes) as they would be under `target`, in their order.

    `target` is the label of a level or of a combination (`scsave.data.targets`). `uns["trust"]` says how far to trust each
    cell type (sets of genes: the set). UserError for an unknown route or target, and for networks that were not trained.
    """
    check_route(model, route)
    if model.targets is not None:
        log_status(model, target)
    cells = ROUTES[route][1](model, control, target, seed)
    if model.targets is not None and model.targets.further:
        cells.obs = model.targets.assigned(cells.obs, target)
    cells.uns[TRUST] = trust_of_types(model, control, target, route)
    return cells


def check_route(model: Fitted, route: str) -> None:
    """UserError where the model can't predict along a route."""
    if model.info.get("perturbation") is None:
        raise UserError("this model has no perturbation column: it was trained on data without data.perturbation_key")
    if route not in ROUTES:
        raise UserError(f"route={route}: no such route; there are {', '.join(ROUTES)}")
    needed = ROUTES[route][0]
    if not model.trained(needed):
        raise UserError(
            f"route={route} needs the part {needed} of the model; this run left it out: add it to task.routes"
        )
    check_routes(model, [route])


def log_status(model: Fitted, target: str) -> None:
    """Say so where the numbers of a target lie between those of training, or beyond. UserError for an unknown target."""
    status = model.targets.status(target)
    if status != SEEN:
        log.warning("target %s: its numbers are %s from those that training cells have", target, status)


def trust_of_types(model: Fitted, control: AnnData, target: str, route: str) -> pd.DataFrame:
    """`trust_table` of a prediction, by cell type (all cells together where there is no column of types)."""
    if model.targets is None:
        return trust_table({target: trust_of(model, None, target, route) or unknown()})
    column, status = model.info.get("cell_type"), model.targets.status(target)
    groups = {str(control.obs[column].iloc[here[0]]) if column in control.obs else keys.ALL: control[here]
              for here in same_type(model, control)}  # fmt: skip
    found = {name: trust_of(model, cells, target, route) or unknown() for name, cells in groups.items()}
    return trust_table(found, {} if status == SEEN else dict.fromkeys(found, status))


def check_routes(model: Fitted, routes: Iterable[str]) -> None:
    """UserError for a route that is not defined for a model, whatever its weights will be."""
    for route in routes:
        if why := undefined(model, route):
            raise UserError(f"route={route}: {why}")


def undefined(model: Fitted, route: str) -> str | None:
    """Why a route is not defined for a model; None where it is."""
    if route == "transfer" and model.info["perturbation"] not in model.decoder_conditions:
        return "not defined: the decoder is not told the treatment (backbone.told)"
    return None


def moved(model: Fitted, control: AnnData, target: str, seed: int) -> AnnData:
    """Route `between`."""
    obs = counterfactual(model, control.obs, target)
    return aligned(between(model, control, obs, same_type(model, control), target, seed), control)


def combined(model: Fitted, control: AnnData, target: str, seed: int) -> AnnData:
    """Route `combined`."""
    obs, weight = counterfactual(model, control.obs, target), weight_of(model)

    def both(cells: AnnData, change: np.ndarray) -> np.ndarray:
        return mixed(weight, change, model.closed.change_of(cells, target))

    return aligned(between(model, control, obs, same_type(model, control), target, seed, both), control)


def transferred(model: Fitted, control: AnnData, target: str, seed: int) -> AnnData:
    """Route `transfer`: the decoded change of each cell type's mean, carried over to its control cells."""
    return carried_groups(
        control,
        same_type(model, control),
        lambda cells: decoded_change(model, cells, target),
        model.info["perturbation"],
        target,
        seed,
        METHOD,
    )


def generated(model: Fitted, control: AnnData, target: str, seed: int) -> AnnData:
    """Route `generate`: as many cells from noise as there are control cells, the flow being told the target (the paper's)."""
    model = replace(model, sampler=replace(model.sampler, unseen="told"))
    return aligned(generate(model, counterfactual(model, control.obs, target), seed=seed), control)


def translated(model: Fitted, control: AnnData, target: str, seed: int) -> AnnData:
    """Route `translate`."""
    obs = known_levels(model, control.obs).assign(**{keys.LIBRARY: control.obs[keys.LIBRARY]})
    start = AnnData(obs=obs, var=control.var, layers={keys.COUNTS: control.layers[keys.COUNTS]})
    return aligned(translate(model, start, counterfactual(model, control.obs, target), seed=seed), control)


Route = Callable[[Fitted, AnnData, str, int], AnnData]
ROUTES: dict[str, tuple[str, Route]] = {  # name -> what has to be trained, and the function
    "between": ("cells", moved),
    keys.COMBINED: ("cells", combined),
    "generate": ("noise", generated),
    "translate": ("noise", translated),
    "transfer": ("autoencoder", transferred),
}


def decoded_change(model: Fitted, cells: AnnData, target: str) -> np.ndarray:
    """Mean over the cells, (G,), of expression decoded as target minus expression decoded as what they are."""
    latent, library = model.encode(cells), cells.obs[keys.LIBRARY].to_numpy()
    before, after = (
        model.decode(latent, obs, library).X
        for obs in (known_levels(model, cells.obs), counterfactual(model, cells.obs, target))
    )
    return np.asarray((after - before).mean(axis=0)).ravel()


def counterfactual(model: Fitted, obs: pd.DataFrame, target: str) -> pd.DataFrame:
    """The conditions of cells under `target`: what is bound to the perturbation and not named by it is masked."""
    obs, key = known_levels(model, obs), model.info["perturbation"]
    level, named = (target, {}) if model.targets is None else parsed(target, model.targets.further)
    asked = {key: level, **dict.fromkeys(model.info.get("bound", []), keys.MASK), **named}
    return obs.assign(**{n: pd.Series([value] * len(obs), index=obs.index, dtype=object) for n, value in asked.items()})


def known_levels(model: Fitted, obs: pd.DataFrame) -> pd.DataFrame:
    """The model's condition columns of `obs`; a level that training lacked (a new donor) is masked."""
    out = obs[[name for name in model.conditions.names if name in obs]].copy()
    for column in model.conditions.columns:
        if column.kind == "categorical" and column.name in out and column.name != model.info["perturbation"]:
            text = out[column.name].astype(str)
            out[column.name] = text.where(text.isin(column.levels), keys.MASK)
    return out


def same_type(model: Fitted, control: AnnData) -> list[np.ndarray]:
    """Positions of the cells of each type; all of them where there is no column of types."""
    column = model.info.get("cell_type")
    if column is None or column not in control.obs:
        return [np.arange(control.n_obs)]
    codes, levels = pd.factorize(control.obs[column].astype(str), sort=True)
    return [np.flatnonzero(codes == code) for code in range(len(levels))]


def aligned(cells: AnnData, control: AnnData) -> AnnData:
    """Predicted cells under the names and the other columns of the control cells that they answer."""
    cells.obs_names = control.obs_names
    for column in control.obs.columns.difference(cells.obs.columns):
        cells.obs[column] = control.obs[column]
    return cells
