"""How far the flow leaves its shift, and how far a prediction can be trusted: from training strata held out in turn.

The strata (cell types, or perturbations where those are sets of genes) are dealt into a few groups; for each the flow from
cells is fitted again without them, on the latents of the one autoencoder, and predicts their change.
"""

import copy
import dataclasses
import logging
import math
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from scsave.data.perturbations import parse
from scsave.method.between import decoded_change, move
from scsave.method.decoding import inference
from scsave.method.fitted import Fitted
from scsave.stats.agreement import pearson
from scsave.training.loader import LatentRows, Rows, StepNoise
from scsave.training.pairs import Pairs
from scsave.training.plan import Plan
from scsave.training.stages import Step, cells_loss

log = logging.getLogger("scsave")
LEAVE = (0.0, 0.25, 0.5, 0.75, 1.0)  # lambda: none of the field beyond the shift, to all of it
FEWEST = 3  # strata that can be held out in turn
SHARE = 0.8  # of the intervals


def settle(model: Fitted, plan: Plan, rows: Rows, train: AnnData, seed: int) -> dict[str, Any]:
    """`leave` and `trust` for `model.info`, chosen and measured on training strata held out. {} without pairs.

    `trust` has the change-PCC of each stratum at the chosen setting and its distance from the others.
    """
    pairs: Pairs | None = rows.pairs
    names = sorted(set(pairs.names)) if pairs is not None else []
    if len(names) < FEWEST:
        return {"leave": 0.0 if plan.leave is None else plan.leave, "trust": {}} if names else {}
    latents, found = LatentRows(model.network, rows, model.device), {}
    order = np.random.default_rng(seed).permutation(len(names))
    groups = np.array_split(order, min(plan.trust_groups, len(names)))
    for number, group in enumerate(groups):
        held = {names[k] for k in group}
        refitted = _refit(model, plan, latents, pairs.without(held), seed + number)
        for name in held:
            found[name] = _scores(refitted, plan, pairs, name, train, seed)
    table = np.array([[found[name][leave] for leave in LEAVE] for name in names])  # (T, 5)
    mean = np.nanmean(table, axis=0)
    best = (
        int(np.nan_to_num(mean, nan=-1.0).argmax())
        if plan.leave is None
        else int(np.abs(np.array(LEAVE) - plan.leave).argmin())
    )
    leave, apart = LEAVE[best] if plan.leave is None else plan.leave, distances(model, latents, pairs, names)
    trust = {n: {"pcc": float(p), "distance": float(d)} for n, p, d in zip(names, table[:, best], apart, strict=True)}
    log.info("training strata held out in turn: change-PCC %.3f on average at leave=%s", mean[best], leave)
    centres = {} if model.space is not None else {n: _centre(model, latents, pairs, n).tolist() for n in names}
    return {"leave": float(leave), "trust": trust, "centres": centres}


def _refit(model: Fitted, plan: Plan, latents: LatentRows, pairs: Pairs, seed: int) -> Fitted:
    """The model with a velocity network fitted anew, from cells alone, on fewer strata and for `trust_steps` steps."""
    network = copy.copy(model.network)
    network._modules = dict(network._modules)
    network.velocity = model.fresh_velocity(seed).to(model.device)
    rows = copy.copy(latents)
    rows.pairs = pairs.to(model.device)
    rows.set_shifts(network)
    network.velocity.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(network.velocity.parameters(), lr=plan.flow_lr, weight_decay=plan.weight_decay)
    average = {name: value.clone() for name, value in network.velocity.state_dict().items()}
    for number in range(plan.trust_steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.flow_lr * min(
                1.0, (number + 1) / 50, (plan.trust_steps - number) / (0.3 * plan.trust_steps)
            )
        noise = StepNoise((seed, 6, number), 0, 1, model.device)
        parts = frozenset({"cells"})
        step = Step(
            network, model.sampler.objective, plan, noise, number, plan.trust_steps, True, parts, rows, lambda x: x
        )
        optimiser.zero_grad(set_to_none=True)
        cells_loss(step).backward()
        torch.nn.utils.clip_grad_norm_(network.velocity.parameters(), plan.gradient_clip or math.inf)
        optimiser.step()
        decay = min(plan.ema_decay, (1 + number) / (10 + number))
        for name, value in network.velocity.state_dict().items():
            average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)
    network.velocity.load_state_dict(average)
    network.velocity.requires_grad_(False).eval()
    return dataclasses.replace(model, network=network)


def _scores(model: Fitted, plan: Plan, pairs: Pairs, name: str, train: AnnData, seed: int) -> dict[float, float]:
    """Change-PCC of the decoded change of a held-out stratum by `leave`: mean over its pairs of groups."""
    rng, found = np.random.default_rng(seed), {}
    for control, treated in (
        (c, t) for c, t, n in zip(pairs.control, pairs.treated, pairs.names, strict=True) if n == name
    ):
        control, treated = control.cpu().numpy(), treated.cpu().numpy()
        cells = train[np.sort(rng.permutation(control)[: plan.trust_cells])].copy()
        obs = cells.obs[[n for n in model.conditions.names if n in cells.obs]].astype(object)
        obs[model.info["perturbation"]] = str(train.obs[model.info["perturbation"]].iloc[treated[0]])
        before, after = (np.asarray(train.X[places].mean(axis=0)).ravel() for places in (control, treated))
        for leave in LEAVE:
            change = decoded_change(model, move(model, cells, obs, leave), np.arange(cells.n_obs))
            found.setdefault(leave, []).append(pearson(after - before, change))
    return {leave: float(np.mean(values)) for leave, values in found.items()}


def distances(model: Fitted, latents: LatentRows, pairs: Pairs, names: list[str]) -> np.ndarray:
    """Of each stratum, the distance from the nearest other one: of control means in the flow's space, or of gene vectors."""
    if model.space is not None:
        sets = [parse(name, model.info["control"]) for name in names]
        at = np.array([model.space.place(list(genes)).mean(0) for genes in sets])
    else:
        at = np.array([_centre(model, latents, pairs, name) for name in names])
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return apart.min(axis=1)


def _centre(model: Fitted, latents: LatentRows, pairs: Pairs, name: str) -> np.ndarray:
    places = torch.cat([c for c, n in zip(pairs.control, pairs.names, strict=True) if n == name]).to(model.device)
    return latents.flow(model.network, places).mean(0)[:-1].cpu().numpy()


def expected_accuracy(trust: dict[str, dict[str, float]], distance: float | None = None) -> dict[str, float] | None:
    """Change-PCC to expect of a stratum never seen, with an 80% interval; None where too few strata were held out.

    Mean of the Fisher-transformed scores of the training strata, or where there are six or more and a distance is given,
    their regression on log distance; the interval is that of one new observation (Student's t).
    """
    from scipy import stats  # half a second to import, which generating cells does not need

    scores = np.array([one["pcc"] for one in trust.values()])
    scores, apart = (
        scores[np.isfinite(scores)],
        np.array([one["distance"] for one in trust.values()])[np.isfinite(scores)],
    )
    n = len(scores)
    if n < FEWEST:
        return None
    y = np.arctanh(np.clip(scores, -0.999, 0.999))
    if distance is None or n < 6 or not np.isfinite(distance):
        centre, spread, freedom = y.mean(), y.std(ddof=1) * math.sqrt(1 + 1 / n), n - 1
    else:
        x, new = np.log(np.maximum(apart, 1e-6)), math.log(max(distance, 1e-6))
        new = float(np.clip(new, x.min(), x.max()))  # beyond what was seen the line says nothing
        fit = stats.linregress(x, y)
        centre, freedom = fit.intercept + fit.slope * new, n - 2
        residual = math.sqrt(((y - fit.intercept - fit.slope * x) ** 2).sum() / freedom)
        spread = residual * math.sqrt(1 + 1 / n + (new - x.mean()) ** 2 / max(((x - x.mean()) ** 2).sum(), 1e-9))
    reach = float(stats.t.ppf(0.5 + SHARE / 2, freedom)) * spread
    low, middle, high = (float(np.tanh(value)) for value in (centre - reach, centre, centre + reach))
    return {"expected_pcc": middle, "low": low, "high": high, "held_out": n}


def trust_of(model: Fitted, control: AnnData) -> dict[str, float] | None:
    """The accuracy to expect of a prediction from these control cells, by how far they lie from training's."""
    trust = model.info.get("trust") or {}
    if not trust or model.space is not None:
        return expected_accuracy(trust) if trust else None
    network = model.network
    with inference(network):
        own = network.to_flow(model.latent(model.encode(control)), model.library(control)).mean(0)[:-1].cpu().numpy()
    centres = model.info.get("centres") or {}
    apart = [float(np.linalg.norm(own - np.array(centre))) for centre in centres.values()]
    return expected_accuracy(trust, min(apart) if apart else None)
