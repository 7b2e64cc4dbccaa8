"""Can a job's data set and packages be had here? Asked once a data set, before anything is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from hydra.utils import get_class
from omegaconf import OmegaConf

from scsave.errors import UserError
from scsave.reproduce.jobs import Job

Ask = Callable[[Job], str | None]


def questions(job: Job) -> dict[str, tuple[str, Ask]]:
    """What a job needs: kind -> a name, the same for jobs that need the same, and who answers why it can't be had."""
    cfg = job.cfg
    data = f"data={cfg.data.name}" + (f" ({cfg.data.path})" if cfg.data.path else "")
    return {
        "package": (f"{job.method}, {cfg.vectors._target_.split('.')[-1]}", package),
        "data": (data, fetched),
        "vectors": (f"vectors={cfg.vectors._target_.split('.')[-1]}", knowledge),
    }


def fetched(job: Job) -> str | None:
    """Downloads the job's data set if it is not here yet; None, or why it can't be had."""
    from scsave.components import build

    try:
        build(OmegaConf.to_container(job.cfg.data, resolve=True), "data").checksum(Path(job.cfg.paths.cache))
    except UserError as error:
        return f"dataset missing: {error}"
    return None


def here(job: Job) -> str | None:
    """The same without a download: None, or what would have to be fetched or is missing."""
    data, cache = job.cfg.data, Path(job.cfg.paths.cache)
    if data.path:
        return None if Path(data.path).exists() else f"dataset missing: {data.path}: no such file"
    if data.get("mirrors") and not (cache / "raw" / data.name).is_dir():
        return "to be downloaded first"
    return None


def knowledge(job: Job) -> str | None:
    """None, or why the job's gene vectors can't be had; downloads those that are a download."""
    from scsave.components import build

    node = job.cfg.vectors
    if node.get("path") or not hasattr(get_class(node._target_), "fetch"):
        return None
    try:
        build(OmegaConf.to_container(node, resolve=True), "vectors").fetch()
    except UserError as error:
        return f"vectors missing: {error}"
    return None


def package(job: Job) -> str | None:
    """None, or the package that the job's baseline or gene vectors need and that is not installed."""
    for node in (job.cfg.baseline, job.cfg.vectors):
        target = node.get("_target_")
        needs = getattr(get_class(target), "needs", None) if target else None
        if needs and not importlib.util.find_spec(needs.module):
            return f"package missing: {needs.package} (make setup EXTRAS=dev,{needs.extra})"
    return None
