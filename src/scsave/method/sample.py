"""Cells out of a fitted SAVE's flow: from noise under conditions, or from other cells under other conditions."""

import logging
import time
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData

from scsave import keys
from scsave.baselines.predicted import own_names
from scsave.data.conditions import Values
from scsave.errors import UserError
from scsave.flow.guidance import guided
from scsave.method.decoding import as_cells, decoded, inference, matrices, on
from scsave.method.fitted import Fitted
from scsave.method.unseen import Start, start_of
from scsave.progress import each
from scsave.threads import keep_freed

log = logging.getLogger(__name__)
NO_EVIDENCE = (
    "drawn from a model of the training cells: no new evidence; not to be counted as cells or replicates in a test"
)
UNIT = 256  # cells that are drawn, solved and decoded together, from a generator of their own


def generate(
    model: Fitted, cells: int | pd.DataFrame, condition: dict[str, Any] | None = None, seed: int = 0
) -> AnnData:
    """Cells from noise: `cells` of one `condition`, or one for each row of a DataFrame of condition columns.

    Columns that are not named are masked, and NaN in `obs`; a technical one gets a level that is drawn. `uns` says which
    were drawn and which not told. Counts are drawn from the likelihood. UserError on unknown columns or levels.
    """
    keep_freed()
    asked = requested(model, cells, condition)
    begin = start_of(model, asked)
    told = with_technical(model, begin.obs, seed)
    obs = told if begin.shift is None else told.assign(**{name: asked[name] for name in model.seen.table})
    for warning in [*model.conditions.outside(obs), *never_seen(model, asked, begin)]:
        log.warning(warning)
    values, started = (model.conditions.encode(told), model.conditions.encode(obs)), time.perf_counter()
    parts = []
    for start in each(range(0, len(obs), UNIT), "sampling", "cells", UNIT, len(obs)):
        here = slice(start, start + UNIT)
        sides = ({name: v[here] for name, v in side.items()} for side in values)
        shift = None if begin.shift is None else torch.from_numpy(begin.shift[here])
        rows = min(UNIT, len(obs) - start)
        parts.append(_unit(model, rows, *sides, shift, _unit_seed(seed, start // UNIT)))
    counts, log1p, library, evaluations = zip(*parts, strict=True)
    seconds = time.perf_counter() - started
    model.cost |= {
        "seconds_sample": seconds,
        "cells_per_second_sample": len(obs) / max(seconds, 1e-9),
        "sampling_evaluations": max(evaluations),
    }
    found = sp.vstack(counts, format="csr"), sp.vstack(log1p, format="csr"), np.concatenate(library)
    about = {"what": "generated cells", "evidence": NO_EVIDENCE} | told_of(asked, obs) | model.about
    if begin.about:
        about["never_seen"] = begin.about
    return own_names(as_cells(model.network, *found, obs, about))


def told_of(asked: pd.DataFrame, obs: pd.DataFrame) -> dict[str, list[str]]:
    """Condition columns of which a level was drawn, and those that the flow was not told, for `uns`."""
    blank = [name for name in obs if (obs[name].isna() | (obs[name].astype(str) == keys.MASK)).any()]
    drawn = [name for name in obs if name not in asked or not asked[name].equals(obs[name])]
    return {what: names for what, names in (("drawn", drawn), ("not_told", blank)) if names}


def never_seen(model: Fitted, asked: pd.DataFrame, begin: Start) -> list[str]:
    """A warning, if cells are asked of combinations of levels that no training cell has, each of the levels being known."""
    seen = pd.DataFrame(model.info["levels"])
    names = [name for name in asked if name in seen and not (asked[name].astype(str) == keys.MASK).all()]
    if len(names) < 2:
        return []
    combinations = asked[names].astype(str).drop_duplicates()
    combinations = combinations[(combinations != keys.MASK).all(axis=1)]
    new = combinations.merge(seen[names].drop_duplicates(), how="left", indicator=True)
    new = new.loc[new.pop("_merge") == "left_only"]
    if new.empty:
        return []
    first = ", ".join(f"{name}={level}" for name, level in new.iloc[0].items())
    made = f"; made from the nearest that was ({begin.about[0]})" if begin.about else ""
    other = "" if model.info["perturbation"] not in names else (
        "; with control cells of the type at hand, mode=predict (task=perturbation) comes nearer"
    )  # fmt: skip
    return [f"{len(new)} of the combinations asked for were not in training ({first}){made}: an extrapolation, which a "
            f"classifier may tell from real cells (docs/choices.md, unseen combinations){other}"]  # fmt: skip


def _unit(
    model: Fitted, rows: int, told: Values, values: Values, shift: torch.Tensor | None, seed: int
) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray, int]:
    """Counts, log1p (n, G) and library sizes (n,) of some cells, and the evaluations of the velocity network.

    The flow is `told` some conditions, its latents are moved by `shift` (n, D), the decoder is given `values`.
    """
    network = model.network
    told, values = on(told, model.device), on(values, model.device)
    rng = torch.Generator(model.device).manual_seed(seed)
    x_0 = torch.randn(rows, network.n_latent + 1, generator=rng, device=model.device)
    x_1, evaluations = flowed(model, x_0, told)
    z, library = network.from_flow(x_1 if shift is None else x_1 + shift.to(model.device))
    library = library.clamp(*model.info["library_range"]).round()
    counts, log1p = matrices(network, z, library, values, rng)
    return counts, log1p, library.cpu().numpy(), evaluations


def _unit_seed(seed: int, number: int) -> int:
    """The seed itself for the first unit, one derived from both for the others."""
    return seed if number == 0 else int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def translate(model: Fitted, cells: AnnData, target: pd.DataFrame, seed: int = 0, draw: bool = True) -> AnnData:
    """The cells under other conditions: the flow backwards under their own, forwards under those of `target` (N rows).

    Columns that either lacks are masked. Drawn from the likelihood, or its mean with `draw=False`. The objective has to
    be a velocity field or an invertible sampler. UserError on unknown levels.
    """
    network = model.network
    source, wanted = (on(model.conditions.encode(obs), model.device) for obs in (cells.obs, target))
    noise = to_noise(model, network.to_flow(model.latent(model.encode(cells)), model.library(cells)), source)
    z, library = network.from_flow(flowed(model, noise, wanted)[0])
    rng = torch.Generator(model.device).manual_seed(seed) if draw else None
    library = library.clamp(*model.info["library_range"]).round()
    return decoded(network, z, library, wanted, rng, target, model.about)


def flowed(model: Fitted, x_0: torch.Tensor, values: Values, guided_by: Any = None) -> tuple[torch.Tensor, int]:
    """Noise (N, D) to latents (N, D) under `values`, and the evaluations of the network that it took."""
    with inference(model.network):
        weight = model.sampler.guidance if guided_by is None else guided_by
        field = guided(model.network.velocity, model.conditions, values, weight)
        return model.sampler.objective.sample(field, x_0, model.sampler.solver)


def to_noise(model: Fitted, x_1: torch.Tensor, values: Values) -> torch.Tensor:
    """Latents (N, D) back to noise (N, D), by the plain conditional field under `values`."""
    with inference(model.network):
        field = guided(model.network.velocity, model.conditions, values, 1.0)
        return model.sampler.objective.invert(field, x_1, model.sampler.solver)[0]


def with_technical(model: Fitted, obs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """`obs` (N rows) with a level of each technical column that is not asked for: drawn as training cells have them.

    Of the combinations that training cells have under the levels that a row names, or of all where it has none.
    """
    table, rng = pd.DataFrame(model.info["levels"]), np.random.default_rng(seed)
    free = [
        n for n in model.info["technical"] if n in table and (n not in obs or (obs[n].astype(str) == keys.MASK).all())
    ]
    if not free or not len(obs):
        return obs
    obs = obs.copy()
    named = [name for name in table.columns.drop(["cells", *free]) if name in obs]
    text = obs[named].astype(str) if named else pd.DataFrame(index=obs.index)
    drawn = np.empty(len(obs), dtype=np.int64)  # row of the table
    groups = text.groupby(named, sort=True).indices if named else {(): np.arange(len(obs))}
    for levels, rows in groups.items():
        levels = levels if isinstance(levels, tuple) else (levels,)
        fits = np.ones(len(table), dtype=bool)
        for name, level in zip(named, levels, strict=True):
            fits &= (table[name] == level).to_numpy() | (level == keys.MASK)
        weight = table["cells"].to_numpy() * (fits if fits.any() else 1)
        drawn[rows] = rng.choice(len(table), size=len(rows), p=weight / weight.sum())
    for name in free:
        obs[name] = table[name].to_numpy()[drawn]
    return obs


def requested(model: Fitted, cells: int | pd.DataFrame, condition: dict[str, Any] | None) -> pd.DataFrame:
    """One row of condition columns a cell. UserError on unknown columns."""
    names = model.conditions.names
    if isinstance(cells, pd.DataFrame):
        asked = cells[[name for name in names if name in cells]].copy()
        blank = [name for name in asked if asked[name].isna().any() and not pd.api.types.is_numeric_dtype(asked[name])]
        return asked.assign(**{name: asked[name].astype(object).fillna(keys.MASK) for name in blank})
    condition = condition or {}
    if not isinstance(condition, dict):
        raise UserError(f"condition={condition!r}: give {{column: level}}, such as {{{names[0]!r}: ...}}")
    if unknown := set(condition) - set(names):
        raise UserError(
            f"condition names {', '.join(sorted(unknown))}; the model's conditions are: {', '.join(names) or 'none'}"
        )
    if cells < 1:
        raise UserError(f"n={cells}: at least one cell must be asked for")
    return pd.DataFrame({name: [condition.get(name, keys.MASK)] * cells for name in names}, index=range(cells))
