"""Can a job's data set and packages be had here? Asked once a data set, before anything is trained."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from scsave.errors import UserError
from scsave.runs.reproduce.jobs import Job

Ask = Callable[[Job], str | None]


def questions(job: Job) -> list[tuple[str, Ask]]:
    """What a job needs: a name, the same for jobs that need the same, and who answers why it can't be had."""
    data, vectors = job.cfg.data, f"vectors={job.cfg.vectors._target_.rpartition('.')[2]}"
    return [
        (f"baseline={job.method}", lambda job: package(job.cfg.baseline)),
        (vectors, lambda job: package(job.cfg.vectors)),
        (str(data.path or f"data={data.name}"), fetched),
        (f"{vectors} (download)", knowledge),
    ]


def fetched(job: Job) -> str | None:
    """Downloads the job's data set if it is not here yet; None, or why it can't be had."""
    if absent := _absent(job):
        return absent
    from scsave.components import build

    try:
        build(OmegaConf.to_container(job.cfg.data, resolve=True), "data").checksum(Path(job.cfg.paths.cache))
    except UserError as error:
        return f"dataset missing: {error}"
    return None


def here(job: Job) -> str | None:
    """The same without a download: None, or what would have to be fetched or is missing."""
    data, cache = job.cfg.data, Path(job.cfg.paths.cache)
    if not data.path and data.get("mirrors") and not (cache / "raw" / data.name).is_dir():
        return "to be downloaded first"
    return _absent(job)


def _absent(job: Job) -> str | None:
    path = job.cfg.data.path
    if not path or Path(path).exists():
        return None
    return f"dataset missing: {path}: no such file (DATA=<folder> says where local files are)"


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


def package(node: DictConfig) -> str | None:
    """None, or the package that a baseline or gene vectors need and that is not installed."""
    target = node.get("_target_")
    needs = getattr(get_class(target), "needs", None) if target else None
    if needs is None or importlib.util.find_spec(needs.module):
        return None
    return f"package missing: {needs.package} (make setup EXTRAS=dev,{needs.extra})"
