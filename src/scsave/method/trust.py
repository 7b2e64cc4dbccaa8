"""How far the flow leaves its shift, and how far a prediction can be trusted: from training strata held out in turn.

The strata (cell types, or perturbations where those are sets of genes) are dealt into a few groups; for each the flow from
cells is fitted again without them, on the latents of the one autoencoder, and predicts their change.
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from scsave.data.perturbations import canonical, parse
from scsave.data.targets import parsed
from scsave.keys import COMBINED
from scsave.method.between import decoded_change, move
from scsave.method.combined import choose, trust_entries
from scsave.method.decoding import inference
from scsave.method.fitted import Fitted
from scsave.progress import each
from scsave.stats.agreement import pearson
from scsave.stats.expected import FEWEST, TRUST, expected_accuracy
from scsave.training.loader import LatentRows, Rows, StepNoise
from scsave.training.pairs import Pairs
from scsave.training.plan import Plan
from scsave.training.stages import Step, cells_loss

log = logging.getLogger("scsave")
LEAVE = (0.0, 0.25, 0.5, 0.75, 1.0)  # lambda: none of the field beyond the shift, to all of it
MOST_TARGETS = 24  # that a held-out stratum is scored under
MOST_STRATA = 48  # that are scored


def settle(model: Fitted, plan: Plan, rows: Rows, train: AnnData, seed: int) -> dict[str, Any]:
    """`leave` and `trust` for `model.info`, chosen and measured on training strata held out. {} without pairs.

    `trust` has the change-PCC of each stratum at the chosen setting and its distance from the others.
    """
    pairs: Pairs | None = rows.pairs
    names = sorted(set(pairs.names)) if pairs is not None else []
    if len(names) < FEWEST:
        return {"leave": 0.0 if plan.leave is None else plan.leave, "trust": {}} if names else {}
    latents, found, truth, closed = LatentRows(model.network, rows, model.device), {}, {}, {}
    order = np.random.default_rng(seed).permutation(len(names))
    groups = np.array_split(order, min(plan.trust_groups, len(names)))
    for number, group in enumerate(each(groups, "trust", "groups held out")):
        held = {names[k] for k in group}
        refitted = _refit(model, plan, latents, pairs.without(held), seed + number)
        for name in sorted(names[k] for k in group[: -(-MOST_STRATA // len(groups))]):
            found[name], truth[name] = _changes(refitted, plan, pairs, name, train, seed)
            closed[name] = _by_closed_form(model, held, name, truth[name])
    names = sorted(found)
    by_target = {
        name: {t: np.array([pearson(truth[name][t], one) for one in changes]) for t, changes in found[name].items()}
        for name in names
    }
    table = np.array([np.mean(list(by_target[name].values()), axis=0) for name in names])  # (T, 5)
    mean = np.nanmean(table, axis=0)
    best = (
        int(np.nan_to_num(mean, nan=-1.0).argmax())
        if plan.leave is None
        else int(np.abs(np.array(LEAVE) - plan.leave).argmin())
    )
    leave, apart = LEAVE[best] if plan.leave is None else plan.leave, distances(model, latents, pairs, names)
    trust = {n: {"pcc": float(p), "distance": float(d), "targets": {t: float(v[best]) for t, v in by_target[n].items()}}
             for n, p, d in zip(names, table[:, best], apart, strict=True)}  # fmt: skip
    log.info("training strata held out in turn: change-PCC %.3f on average at leave=%s", mean[best], leave)
    network = {name: {t: changes[best] for t, changes in found[name].items()} for name in names}
    weighted, both = choose(network, closed, truth), {}
    if weighted is not None:
        both = {"weight": weighted[0], TRUST: trust_entries(weighted[1], trust)}
        average = np.mean([one["pcc"] for one in both[TRUST].values()])
        log.info(
            "with the closed form: change-PCC %.3f on average at a weight of %s of the network", average, weighted[0]
        )
    centres = {} if model.space is not None else {n: _centre(model, latents, pairs, n).tolist() for n in names}
    return {"leave": float(leave), TRUST: trust, COMBINED: both, "centres": centres}


def _refit(model: Fitted, plan: Plan, latents: LatentRows, pairs: Pairs, seed: int) -> Fitted:
    """The model with a velocity network fitted anew, from cells alone, on fewer strata and for `cells_steps` steps."""
    network = copy.copy(model.network)
    network._modules = dict(network._modules)
    network.velocity = model.fresh_velocity(seed).to(model.device)
    rows = copy.copy(latents)
    rows.pairs = pairs.to(model.device)
    network.velocity.train().requires_grad_(True)
    shift = model.network.velocity.shift
    rows.set_shifts(network, seed, None if shift is None else shift.penalty)
    optimiser = torch.optim.AdamW(network.velocity.parameters(), lr=plan.flow_lr, weight_decay=plan.weight_decay)
    average = {name: value.clone() for name, value in network.velocity.state_dict().items()}
    for number in range(plan.cells_steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.flow_lr * min(
                1.0, (number + 1) / 50, (plan.cells_steps - number) / (0.3 * plan.cells_steps)
            )
        noise = StepNoise((seed, 6, number), 0, 1, model.device)
        parts = frozenset({"cells"})
        step = Step(
            network, model.sampler.objective, plan, noise, number, plan.cells_steps, True, parts, rows, lambda x: x
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


def _by_closed_form(model: Fitted, held: set[str], name: str, targets: Iterable[str]) -> dict[str, np.ndarray]:
    """Change, (G,), of a stratum by target, by the closed form without the strata `held`; {} where it has none."""
    if model.closed is None:
        return {}
    found = {target: model.closed.without(held, target).get(name) for target in targets}
    return {target: change for target, change in found.items() if change is not None}


def _changes(
    model: Fitted, plan: Plan, pairs: Pairs, name: str, train: AnnData, seed: int
) -> tuple[dict[str, list[np.ndarray]], dict[str, np.ndarray]]:
    """Decoded changes of a held-out stratum by target, one for each of `LEAVE`, and its real changes, (G,) each: of all its
    cells, its groups together, as a run scores a type. Of many targets some are drawn."""
    rng, found, truth = np.random.default_rng(seed), {}, {}
    own = [k for k, n in enumerate(pairs.names) if n == name]
    targets = sorted({pairs.targets[k] for k in own})
    if len(targets) > MOST_TARGETS:
        targets = sorted(rng.choice(targets, MOST_TARGETS, replace=False).tolist())
    for number in targets:
        here, target = [k for k in own if pairs.targets[k] == number], pairs.labels[number]
        control, treated = (
            np.unique(torch.cat([side[k].cpu() for k in here]).numpy()) for side in (pairs.control, pairs.treated)
        )
        cells = train[np.sort(rng.permutation(control)[: plan.trust_cells])].copy()
        obs = cells.obs[[n for n in model.conditions.names if n in cells.obs]].astype(object)
        for column in model.network.velocity.told:
            obs[column] = train.obs[column].iloc[treated[0]]
        before, after = (np.asarray(train.X[places].mean(axis=0)).ravel() for places in (control, treated))
        moved = [move(model, cells, obs, leave, target) for leave in LEAVE]
        found[target] = [decoded_change(model, one, np.arange(cells.n_obs)) for one in moved]
        truth[target] = after - before
    return found, truth


def distances(model: Fitted, latents: LatentRows, pairs: Pairs, names: list[str]) -> np.ndarray:
    """Of each stratum, the distance from the nearest other one: of control means in the flow's space, or of gene vectors."""
    if model.space is not None:
        at = np.array([_place(model, name) for name in names])
    else:
        at = np.array([_centre(model, latents, pairs, name) for name in names])
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return apart.min(axis=1)


def _centre(model: Fitted, latents: LatentRows, pairs: Pairs, name: str) -> np.ndarray:
    places = torch.cat([c for c, n in zip(pairs.control, pairs.names, strict=True) if n == name]).to(model.device)
    return latents.flow(model.network, places).mean(0)[:-1].cpu().numpy()


def trust_of(model: Fitted, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
    """The accuracy to expect of a prediction of `target` from these control cells, by how far it is from training's; of the
    network, or with `route="combined"` of its mean with the closed form.

    Levels: scores under the target, or where fewer than three types have one under all targets of its level (of any), and
    the distance of the cells' mean from the nearest training type. Sets of genes: that of the set from the nearest of
    training. None where too few strata were held out.
    """
    about = model.info if route != COMBINED else model.info.get(COMBINED) or {}
    trust = about.get(TRUST) or {}
    if not trust:
        return None
    if model.space is not None:
        own = _place(model, target)
        apart = [float(np.linalg.norm(own - _place(model, name))) for name in trust if name != target]
        return expected_accuracy({name: one for name, one in trust.items() if name != target}, min(apart, default=None))
    scored = {n: {"pcc": _under(one, model, target), "distance": one["distance"]} for n, one in trust.items()}
    if control is None or not model.info.get("centres"):
        return expected_accuracy(scored)
    network = model.network
    with inference(network):
        own = network.to_flow(model.latent(model.encode(control)), model.library(control)).mean(0)[:-1].cpu().numpy()
    return expected_accuracy(
        scored, min(float(np.linalg.norm(own - np.array(c))) for c in model.info["centres"].values())
    )


def _under(one: dict[str, Any], model: Fitted, target: str) -> float:
    """Score of a training stratum under a target; where it has none, its mean under the targets of the same level, or all."""
    by_target = one.get("targets") or {}
    if target in by_target:
        return by_target[target]
    further = model.targets.further
    level = parsed(target, further)[0]
    alike = [score for name, score in by_target.items() if parsed(name, further)[0] == level]
    return float(np.mean(alike)) if alike else one["pcc"]


def _place(model: Fitted, name: str) -> np.ndarray:
    """Of a set of genes, the mean of its genes' vectors."""
    return model.space.place(list(parse(canonical(name, model.info["control"]), model.info["control"]))).mean(0)
