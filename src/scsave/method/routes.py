"""The four routes from control cells to cells under another condition (method.md section 6).

- `response`: the mean change that the response head predicts, carried over to the real control cells;
- `transfer`: the change that the decoder makes of it (decoded as target minus decoded as source), carried over likewise;
- `generate`: cells from noise under the target, told what the control cells are told;
- `translate`: the flow run backwards under the source condition and forwards under the target, then decoded and sampled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave import keys
from scsave.baselines.carry import carried_groups
from scsave.errors import UserError

if TYPE_CHECKING:
    from scsave.method.save import SAVE


def respond(model: SAVE, control: AnnData, target: str, seed: int, route: str) -> AnnData:
    """Cells as predicted, in the order of `control`. UserError for an unknown route or target, or untrained networks."""
    key = model.info.get("perturbation_key")
    if key is None:
        raise UserError("this model knows no perturbation column: it was trained on data without data.perturbation_key")
    needed = {"response": "none", "transfer": "autoencoder", "generate": "flow", "translate": "flow"}
    if route not in needed:
        raise UserError(f"route={route}: no such route; there are {', '.join(needed)}")
    order = ("none", "autoencoder", "flow")
    if order.index(model.info["networks"]) < order.index(needed[route]):
        raise UserError(f"route={route} needs a trained {needed[route]}; this run left it out: add it to task.routes")
    if route == "generate":
        return aligned(model.generate(asked(model, control, target), seed=seed), control)
    if route == "translate":
        start = AnnData(
            obs=known(model, control.obs).assign(**{keys.LIBRARY: control.obs[keys.LIBRARY]}), var=control.var
        )
        start.layers[keys.COUNTS] = control.layers[keys.COUNTS]
        return aligned(model.translate(start, asked(model, control, target), seed=seed), control)
    head = response_change if route == "response" else decoded_change
    return carried_groups(
        control, same_type(model, control), lambda cells: head(model, cells, target), key, target, seed
    )


def response_change(model: SAVE, cells: AnnData, target: str) -> np.ndarray:
    """What the response head says, (G,)."""
    if model.head is None:
        raise UserError("route=response: this model was trained without a response head (config group response)")
    return model.head.change(cells, target)


def decoded_change(model: SAVE, cells: AnnData, target: str) -> np.ndarray:
    """Mean over the cells, (G,), of expression decoded as target minus expression decoded as what they are."""
    latent, library = model.encode(cells), cells.obs[keys.LIBRARY].to_numpy()
    before, after = (
        model.decode(latent, obs, library).X for obs in (known(model, cells.obs), asked(model, cells, target))
    )
    return np.asarray((after - before).mean(axis=0)).ravel()


def asked(model: SAVE, cells: AnnData, target: str) -> pd.DataFrame:
    """What is known of the cells, with the perturbation column set to `target`."""
    obs = known(model, cells.obs)
    return obs.assign(**{model.info["perturbation_key"]: pd.Series([target] * len(obs), index=obs.index, dtype=object)})


def known(model: SAVE, obs: pd.DataFrame) -> pd.DataFrame:
    """The model's condition columns of `obs`; a level that training lacked (a new donor) is masked."""
    out = obs[[name for name in model.conditions.names if name in obs]].copy()
    for column in model.conditions.columns:
        if column.kind == "categorical" and column.name in out and column.name != model.info["perturbation_key"]:
            text = out[column.name].astype(str)
            out[column.name] = text.where(text.isin(column.levels), keys.MASK)
    return out


def same_type(model: SAVE, control: AnnData) -> list[np.ndarray]:
    """Positions of the cells of each type; all of them where there is no column of types."""
    column = model.info.get("cell_type_key")
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
