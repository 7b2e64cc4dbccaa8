"""Names of a run: the hashes of its config, the folder of its weights and that of its scores. Imports nothing heavy."""

import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scsave.errors import UserError
from scsave.files import file_name, whole_folder

SCORES, CONFIG = "scores", "config.yaml"
# What changes neither weights nor scores.
_NEITHER = (
    "analysis", "hydra", "paths", "logger", "callbacks", "mode", "ckpt", "resume", "n", "condition", "figures", "sweep",
    "experiment_name", "sweep_metric", "target", "perturbations", "route", "out", "force",
    "progress",
)  # fmt: skip
# What changes scores only: a task asks for parts of a model, which are added to the weights that are there.
_SCORES_ONLY = ("sampling", "task")


def read_config(path: Path) -> DictConfig:
    """The config that a run wrote; UserError for a file that is no plain YAML."""
    try:
        found = OmegaConf.load(path)
        plain = OmegaConf.to_container(found)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        said = " ".join(str(error).split())
    else:
        asked = _interpolation(plain)
        if isinstance(found, DictConfig) and found and not asked:
            return found
        said = f"it asks for {asked}, and a run writes values" if asked else "it holds no keys"
    raise UserError(f"{path}: no config that a run wrote ({said}); give the folder of a run of your own")


def _interpolation(node: Any) -> str:
    """The first text that OmegaConf would resolve (the environment, a resolver that makes folders); "" where there is none."""
    if isinstance(node, str):
        return node if "${" in node else ""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, map(_interpolation, inner)), "")


def training_hash(cfg: DictConfig) -> str:
    """Ten hex digits over every setting that can change the weights: data, split, method and its parts, seed."""
    plain = _plain(cfg, _NEITHER + _SCORES_ONLY)
    plain["method"] = {key: value for key, value in plain["method"].items() if key not in _SCORES_ONLY}
    return _digest(plain)


def scores_hash(cfg: DictConfig) -> str:
    """Ten hex digits over every setting that can change the scores of given weights."""
    plain = _plain(cfg, _NEITHER)
    return _digest({key: plain[key] for key in ("task", "sampling", "seed")})


def config_hash(cfg: DictConfig) -> str:
    """Ten hex digits over every setting that can change a number of the results."""
    return _digest(_plain(cfg, _NEITHER))


def _digest(plain: Any) -> str:
    text = json.dumps(_without_cache(plain), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _without_cache(node: Any) -> Any:
    """The node without the places where downloads are kept: those change no number."""
    if isinstance(node, dict):
        return {key: _without_cache(value) for key, value in node.items() if key != "cache"}
    return node


def _plain(cfg: DictConfig, left_out: tuple[str, ...]) -> dict[str, Any]:
    named = [(str(key), cfg[key]) for key in sorted(map(str, cfg)) if key not in left_out]
    return {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in named}


def run_dir(_root_: DictConfig) -> str:
    """Folder of a run below `paths.outputs`: `<task>/<data>/<method>/<training hash>`; that of `resume`, `out` or `ckpt`."""
    cfg = _root_
    outputs = Path(cfg.paths.outputs)
    for key in ("resume", "ckpt", "out"):
        if not isinstance(cfg[key], str | None):
            raise UserError(f"{key}={cfg[key]}: name one folder, in double quotes where its name is a number")
    if cfg.ckpt and cfg.mode == "train" and not cfg.resume:
        raise UserError(
            f"ckpt={cfg.ckpt}: mode=train trains anew; another mode uses it, resume=<run dir> goes on with a run"
        )
    for key in ("resume", "ckpt"):
        if cfg[key] and not Path(cfg[key]).exists():  # before Hydra makes a folder of that name
            raise UserError(f"{key}={cfg[key]}: no such file or folder; give the folder that a run wrote (outputs/...)")
    if cfg.resume:
        if not Path(cfg.resume).is_dir():
            raise UserError(f"resume={cfg.resume}: a file; give the folder that a run wrote (outputs/...)")
        return os.path.relpath(cfg.resume, outputs)
    if cfg.ckpt and cfg.mode != "train":
        folder = checkpoint_run(cfg.ckpt)
        if cfg.mode == "evaluate":
            return os.path.relpath(folder, outputs)
        if cfg.out and Path(cfg.out).is_file():
            raise UserError(f"out={cfg.out}: a file; give a folder")
        return os.path.relpath(cfg.out if cfg.out else folder / cfg.mode, outputs)
    names = (file_name(f"{group}.name", cfg[group].name) for group in ("task", "data", "method"))
    return "/".join([*names, training_hash(cfg)])


def checkpoint_run(ckpt: str | Path) -> Path:
    """The run's folder of a checkpoint: a file below it, or the folder itself."""
    path = Path(ckpt)
    return path.parent.parent if path.is_file() else path


def scores_folder(run: Path, cfg: DictConfig) -> Path:
    """Where the scores of one task and one way of sampling lie, below the run's weights."""
    return whole_folder(run) / SCORES / f"{file_name('task.name', cfg.task.name)}-{scores_hash(cfg)}"


def command() -> str:
    """This job's command line as a shell takes it; "" outside of Hydra. In a sweep: the one job's own."""
    return shlex.join(["python", "train.py", *overrides()]) if HydraConfig.initialized() else ""


def overrides() -> list[str]:
    """This job's `key=value` arguments; none outside of Hydra."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def named_on_command_line(key: str) -> bool:
    """Did the user choose this key or group, or something in it? Outside of Hydra: yes, the config is the caller's."""
    if not HydraConfig.initialized():
        return True
    names = (override.lstrip("+~").partition("=")[0] for override in overrides())
    return any(name == key or name.startswith((f"{key}.", f"{key}@")) for name in names)


def in_sweep() -> bool:
    """Is this job one of a sweep?"""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def override_values(group: str) -> dict[str, Any]:
    """`group.key=value` of this job's command line as {key: value}, the values as Hydra reads them (NO is text)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides())
    found = {override.key_or_group: override.value() for override in parsed if not override.is_delete()}
    own = [key for key in found if key.startswith(f"{group}.")]
    return {key.removeprefix(f"{group}."): plain_value(found[key]) for key in own}


def plain_value(value: Any) -> Any:
    """A value of Hydra's grammar as plain types: quoted text is text."""
    if isinstance(value, dict):
        return {str(plain_value(k)): plain_value(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain_value(v) for v in value]
    return getattr(value, "text", value)
