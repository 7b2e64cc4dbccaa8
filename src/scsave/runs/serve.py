"""What a trained run is used for: mode=generate, predict or integrate, from its checkpoint, without the training data."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from omegaconf import OmegaConf

from scsave import keys
from scsave.baselines.base import Learned
from scsave.components import build
from scsave.compose import config_folder
from scsave.data.read import rejoined
from scsave.errors import UserError
from scsave.files import RESULTS, whole_folder, write_h5ad, write_text
from scsave.method.fitted import Fitted, Sampler
from scsave.method.integrate import check_head, describe
from scsave.method.integrate import integrate as embed
from scsave.method.predict import SUMMARY, Vocabulary, predict_sets, vocabulary
from scsave.method.predict import predict as predict_each
from scsave.method.predict_levels import GENES, Predictor, predict_levels
from scsave.method.respond import ROUTES, check_route
from scsave.method.sample import generate as sample
from scsave.models.checkpoint import find_checkpoint
from scsave.results.frame import read
from scsave.runs.config import RunConfig
from scsave.runs.naming import SCORES, checkpoint_run, named_on_command_line, override_values, overrides, read_config
from scsave.runs.new_cells import Roles, control_cells, new_cells, stored
from scsave.stats.agreement import NAN
from scsave.stats.expected import METRIC, TRUST, in_words, said
from scsave.tasks.base import row_of

# Rows in closed form that stand beside a network's in the table of a run, the most able first.
NO_NETWORK = ("type_process", "set_process", "gene_slope", "additive")
_EVERY_MODE = {"mode", "ckpt", "trainer", "paths", "hydra", "logger", "figures", "progress"}
_SEVERAL = {"callbacks", "experiment", "hydra"}  # groups of which several options make sense together
_FROM_A_MODEL = _EVERY_MODE | {"seed", "out", "sampling", "objective"}
_OF_THE_USES = {"n", "condition", "target", "perturbations", "route"}
# What a mode takes from the command line: any other key would be ignored, so it is refused.
_TAKES = {
    "generate": _FROM_A_MODEL | {"n", "condition"},
    "predict": _FROM_A_MODEL | {"n", "target", "perturbations", "route", "data", "vectors"},
    "integrate": _FROM_A_MODEL | {"data", "task"},
    "evaluate": _EVERY_MODE | {"task", "sampling", "analysis", "force"},
    "resume": {"resume", "mode", "paths", "hydra", "logger", "figures", "progress", "analysis", "force"},
}


def use(config: RunConfig, folder: Path) -> None:
    """`config.mode`, one of `USES`, its files in `folder`."""
    other = other_method(config)
    find_checkpoint(config.ckpt)  # before what takes seconds to import
    if other is not None:
        predict_by(config, folder, other)
    else:
        model = Fitted.load(config.ckpt, build(config.trainer, "trainer").device)
        model.sampler = Sampler.of(*sampling_nodes(model.nodes, config))
        name_vectors(config, model)
        USES[config.mode](config, folder, model)
    if config.mode == "predict" and (line := reached_before(config)):
        print(line)


def check_keys(mode: str, given: list[str]) -> None:
    """UserError for a key or group of the command line that the mode (`resume`: a run gone on with) would ignore, and for
    several options of one group, of which the last alone would hold."""
    takes, said = _TAKES.get(mode), mode if mode == "resume" else f"mode={mode}"
    for override in given:
        key, _, value = override.lstrip("+~").partition("=")
        top = key.split(".")[0].split("@")[0]
        if takes is None and top in _OF_THE_USES:
            raise UserError(
                f"{key}: {said} does not use it; mode={' or '.join(m for m in _TAKES if top in _TAKES[m])} does"
            )
        if takes is not None and top not in takes:
            raise UserError(f"{key}: {said} does not use it; it takes {', '.join(sorted(takes - {'hydra'}))}")
        if value.startswith("[") and "." not in key and top not in _SEVERAL and (config_folder() / top).is_dir():
            raise UserError(f"{override}: one option of {key} at a time; side by side: -m {key}={value.strip('[] ')}")


def name_vectors(config: RunConfig, *holders: Any) -> None:
    """Gene vectors of a model that the command line names are looked up there: a checkpoint's own place is not gone to."""
    for space in filter(None, (getattr(holder, "space", None) for holder in holders)):
        named = build(config.vectors, "vectors") if named_on_command_line("vectors") else None
        if named is not None and not getattr(named, "in_data", False):
            space.vectors = named
        elif hasattr(space.vectors, "cache"):
            space.vectors.cache = config.paths.cache


def sampling_nodes(nodes: dict[str, Any], config: RunConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The objective and the sampling of the run, with what the command line names of them."""
    objective = config.objective if named_on_command_line("objective") else nodes["objective"]
    if any(override.startswith("sampling=") for override in overrides()):
        return objective, config.sampling.model_dump()
    sampling = OmegaConf.create(nodes["sampling"])
    for key, value in override_values("sampling").items():
        OmegaConf.update(sampling, key, value, merge=False)
    return objective, OmegaConf.to_container(sampling)


def generate(config: RunConfig, folder: Path, model: Fitted) -> None:
    """Cells from noise under `condition`."""
    condition = config.condition or {}
    check_room(config.n, len(model.genes))
    cells = sample(model, config.n, condition, config.seed)
    path = written(folder / "generated.h5ad", cells)
    named = ", ".join(f"{k}={v}" for k, v in condition.items()) or "no condition named: drawn over all"
    print(f"{cells.n_obs} cells x {cells.n_vars} genes ({named}): {path}")


def check_room(n: int, genes: int) -> None:
    """UserError where `n` cells would not fit into the memory of this machine, a gene in twenty being seen in each."""
    import psutil

    needed, there = n * genes / 20 * 16, psutil.virtual_memory().total  # counts and log1p, a value and its place each
    if needed > there:
        raise UserError(
            f"n={n}: so many cells take at least {needed / 2**30:,.0f} GB, and this machine has {there / 2**30:,.0f}; "
            "generate them in parts, each with its seed=... and out=..."
        )


def other_method(config: RunConfig) -> Any:
    """The method of the run behind `ckpt`, not restored; None where it is SAVE. UserError for one that can't be used so."""
    path = whole_folder(checkpoint_run(config.ckpt)) / "config.yaml"
    node = OmegaConf.to_container(read_config(path), resolve=True).get("method") if path.is_file() else None
    if not isinstance(node, dict) or node.get("name") == "save":
        return None
    method = build(node, "method")
    if config.mode != "predict" or not isinstance(method, Learned) or "perturbation" not in method.tasks:
        also = ", method=type_process (levels) or method=set_process (sets of genes)" * (config.mode == "predict")
        raise UserError(
            f"ckpt={config.ckpt}: method={method.name} keeps nothing that mode={config.mode} could use; train method=save{also}"
        )
    if config.route is not None and config.route not in method.routes:
        raise UserError(f"route={config.route}: method={method.name} has {', '.join(method.routes)}")
    return method


def predict_by(config: RunConfig, folder: Path, method: Any) -> None:
    """`mode=predict` by a method in closed form that keeps what it learned."""
    run = checkpoint_run(config.ckpt)
    method.restore(run if (run / "model.ckpt").is_file() else run / "checkpoints")
    name_vectors(config, method)
    if getattr(method, "space", None) is not None:
        check_kind(config, method.key, sets=True)
        known = Vocabulary(method.space, method.genes, method.seen, method.sets, method.control, method.weighted)
        control = control_cells(config, Roles(method.key, method.control, sets=True))
        control = method.control_cells if control is None else control
        asked, trust = config.perturbations or [], partial(method.trust, None)

        def respond(name: str, start: AnnData, seed: int) -> AnnData:
            return method.respond(start, name, seed)

        donor = override_values("data").get("batch_key")
        return write_sets(config, folder, predict_sets(known, respond, asked, control, config.seed, trust, donor))
    check_kind(config, method.key, sets=False)
    predictor = Predictor(method.genes, method.targets, method.type_key, method.respond, method.change_of, method.trust)
    roles = Roles(method.key, method.control, method.type_key, unread=tuple(method.further))
    return levels(config, folder, predictor, roles)


def predict(config: RunConfig, folder: Path, model: Fitted) -> None:
    """Control cells under `target`, or under each of `perturbations`, and how far to trust that."""
    route, info = config.route or next(iter(ROUTES)), model.info
    check_route(model, route)
    check_kind(config, info["perturbation"], sets=model.space is not None)
    if model.space is None:
        roles = Roles(info["perturbation"], info["control"], info["cell_type"], info["batch"], model.conditions,
                      tuple(info["bound"]))  # fmt: skip
        return levels(config, folder, Predictor.of(model, route), roles)
    known = vocabulary(model)
    roles = Roles(info["perturbation"], known.control, None, info["batch"], model.conditions, sets=True)
    control = control_cells(config, roles)
    donor = override_values("data").get("batch_key")
    return write_sets(
        config, folder, predict_each(model, config.perturbations or [], control, config.seed, route, donor)
    )


def check_kind(config: RunConfig, key: str, sets: bool) -> None:
    """UserError for `target` where sets of genes are perturbed, for `perturbations` where levels are."""
    if sets and config.target is not None:
        raise UserError(f"target={config.target}: '{key}' names sets of genes; name them: perturbations=[...]")
    if not sets and config.perturbations:
        levels_of = f"this model knows no perturbed genes, its perturbations are levels of '{key}'"
        raise UserError(f"perturbations={config.perturbations}: {levels_of}; name one: target=...")


def reached_before(config: RunConfig) -> str:
    """What the run behind `ckpt` reached on what it held out, and beside it a row without a network; "" where no scores lie."""
    found = (whole_folder(checkpoint_run(config.ckpt)) / SCORES).glob(f"*/{RESULTS}")
    runs = [run for _, run in read(found, damaged=[]).iterrows() if run["registry"] in METRIC]
    if not runs:
        return ""
    run = max(runs, key=lambda one: one["written"])
    everywhere = {row: groups.get(keys.ALL, {}) for row, groups in run["scores"][run["headline"]].items()}
    reached = {row: scores.get(METRIC[run["registry"]], NAN) for row, scores in everywhere.items()}
    reached = {row: value for row, value in reached.items() if value == value}
    own = row_of(run["method"], config.route, int(config.route is not None))
    own = own if own in reached else run["method"]
    if own not in reached:
        return ""
    other = next((row for row in NO_NETWORK if row in reached and row != own), None)
    beside = f", and {other}, which trains no network, {reached[other]:.2f}" if other else ""
    said = f"on what the run behind this model held out, {own} reached a change-PCC of {reached[own]:.2f}"
    return f"{said}, {in_words(reached[own])}{beside}"


def levels(config: RunConfig, folder: Path, predictor: Predictor, roles: Roles) -> None:
    """The cells of `data.path` under `target`: `predictions.h5ad`, `per_gene.csv`, its picture, `trust.csv`, and in words."""
    predictor.targets.asked(config.target)  # before a file is read
    control = control_cells(config, roles)
    donor = roles.batch or override_values("data").get("batch_key")
    cells = predict_levels(predictor, config.target, control, config.seed, donor)
    genes, trust, about = cells.uns[GENES], cells.uns[TRUST], cells.uns[keys.UNS]
    path = written(folder / "predictions.h5ad", cells)
    write_text(folder / f"{TRUST}.csv", trust.to_csv())
    write_genes(config, folder, genes, trust)
    groups = genes[genes["in_file"]].groupby(["cell_type", "target"], sort=False)
    for (name, row), ((_, target), one) in zip(trust.iterrows(), groups, strict=True):
        strongest = one.loc[one["change"].abs().sort_values(ascending=False).index[:5]]
        shown = ", ".join(f"{g} {c:+.2f}" for g, c in zip(strongest["gene"], strongest["change"], strict=True))
        over = one["interval_over"].iloc[0]
        print(f"{name} under {target}: {said(row)}; changes most: {shown}; interval over {over}")
        if row["note"]:
            print(f"warning: {name}: the numbers of {target} are {row['note']} from those that training cells have")
    if about["absent_genes"] or about["extra_genes"]:
        print(
            f"{about['absent_genes']} of the model's {cells.n_vars} genes are not in the file and count as zero; "
            f"{about['extra_genes']} genes of the file are not the model's and are left out"
        )
    print(f"{cells.n_obs} cells, {len(trust)} predictions: {path}")


def write_genes(config: RunConfig, folder: Path, genes: pd.DataFrame, trust: pd.DataFrame) -> None:
    """The table of genes, and a picture of those that change most."""
    write_text(folder / f"{GENES}.csv", genes.to_csv(index=False))
    if config.figures:
        from scsave.results.change_figures import draw_predicted  # heavy

        draw_predicted(folder / f"{GENES}.png", genes, trust)


def write_sets(config: RunConfig, folder: Path, cells: AnnData) -> None:
    """Predicted sets of genes: `predictions.h5ad`, `per_perturbation.csv`, `per_gene.csv`, and in words."""
    table = cells.uns[SUMMARY]
    path = written(folder / "predictions.h5ad", cells)
    write_text(folder / f"{SUMMARY}.csv", table.to_csv())
    write_genes(config, folder, cells.uns[GENES], cells.uns[TRUST])
    for name, row in table.iterrows():
        how = "seen in training" if row["in_training"] else "all of its genes seen in training"
        if row["unseen_genes"]:
            how = f"nearest training gene {row['nearest_gene'] or '-'}, {row['distance']:.2f} times the usual distance"
        print(f"{name}: {how}; {said(row)}; changes most: {row['strongest']}")
        if row["warning"]:
            print(f"warning: {row['warning']}")
    if absent := cells.uns[keys.UNS]["absent_genes"]:
        print(f"{absent} of the model's {cells.n_vars} genes are not in the file and count as zero")
    print(f"{len(table)} perturbations x {table['cells'].iloc[0]} control cells: {path}")


def integrate(config: RunConfig, folder: Path, model: Fitted) -> None:
    """The cells of `data.path` embedded, and their expression corrected.

    How the run read its data (or another option of the group that the command picks) is how the new file is read, and its
    `task.reference` holds unless the command says task=batch_correction.
    """
    check_head(model)
    run, given = stored(config), override_values("data")
    node = config.data if any(o.startswith("data=") for o in overrides()) else run["data"]
    task = config.task if any(o.startswith("task=") for o in overrides()) else run["task"]
    cells = new_cells(node, given, model.conditions, Path(config.paths.cache))
    found = embed(model, cells, task.get("reference"))
    found.obs = rejoined(found.obs, Path(given["path"]))
    path = written(folder / "integrated.h5ad", found)
    print(f"{describe(model, cells, found)}: {path}")


def written(path: Path, cells: AnnData) -> Path:
    """`path`, with `cells` in it; says so where it held others."""
    if path.is_file():
        print(f"{path}: replaced; out=<folder> keeps both")
    write_h5ad(path, cells)
    return path


USES = {"generate": generate, "predict": predict, "integrate": integrate}
