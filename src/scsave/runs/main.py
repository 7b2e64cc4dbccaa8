"""The command line: what a user's mistake looks like, and where a run's folder is. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scsave.errors import UserError

INTERRUPTED = 130
LOG = "train.log"  # Hydra's own, of the job
# What does not change the numbers of a run, and so not its folder.
_UNHASHED = (
    "analysis", "hydra", "paths", "logger", "callbacks", "mode", "ckpt", "resume", "n", "condition", "figures", "sweep",
    "experiment_name", "sweep_metric", "perturbations", "route", "out",
)  # fmt: skip


# Options of Hydra that packages bring: the extra of pyproject.toml that installs them.
_EXTRAS = {
    "hydra/sweeper/optuna": "sweep",
    "hydra/launcher/submitit_local": "sweep",
    "hydra/launcher/submitit_slurm": "sweep",
    "hydra/launcher/ray": "ray",
}
# What Hydra's grammar says of an argument that it can't read, and what helps.
_UNREADABLE = ("no viable alternative", "NoViableAlt", "missing EQUAL", "mismatched input", "extraneous input")
_QUOTES = (
    "write key=value without spaces around =, single quotes around the whole, and double quotes around a value with spaces "
    """or signs: 'condition={cell type: "B cell (naive)"}'"""
)


def config_hash(cfg: DictConfig) -> str:
    """Ten hex digits over every setting that can change the result."""
    plain = {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in _items(cfg)}
    return hashlib.sha256(json.dumps(_without_cache(plain), sort_keys=True, default=str).encode()).hexdigest()[:10]


def _without_cache(node: Any) -> Any:
    """Where downloads are kept changes no number."""
    if isinstance(node, dict):
        return {key: _without_cache(value) for key, value in node.items() if key != "cache"}
    return node


def _items(cfg: DictConfig) -> list[tuple[str, Any]]:
    return [(str(key), cfg[key]) for key in sorted(map(str, cfg)) if key not in _UNHASHED]


def method_name(cfg: DictConfig) -> str:
    return cfg.baseline.name if cfg.baseline.get("_target_") else "scsave"


def run_dir(_root_: DictConfig) -> str:
    """Folder of a run below `paths.outputs`: `<task>/<data>/<method>/<hash>`; that of `resume`, `out` or `ckpt` where given."""
    cfg = _root_
    outputs = Path(cfg.paths.outputs)
    for key in ("resume", "ckpt"):
        if cfg[key] and not Path(cfg[key]).exists():  # before Hydra makes a folder of that name
            raise UserError(f"{key}={cfg[key]}: no such file or folder; give the folder that a run wrote (outputs/...)")
    if cfg.resume:
        return os.path.relpath(cfg.resume, outputs)
    if cfg.ckpt and cfg.mode != "train":
        folder = Path(cfg.ckpt)
        folder = folder.parent.parent if folder.is_file() else folder
        if cfg.out and cfg.mode != "evaluate":
            return os.path.relpath(cfg.out, outputs)
        return os.path.relpath(folder / cfg.mode, outputs)
    return f"{cfg.task.name}/{cfg.data.name}/{method_name(cfg)}/{config_hash(cfg)}"


def named_after(path: str | None, otherwise: str) -> str:
    """What a data set that is anyone's file is called, in folders and tables: as the file is, wherever it lies."""
    name = re.sub(r"[^\w+-]+", "_", Path(path or "").stem).strip("_")
    return name or otherwise


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
    names = (override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task)
    return any(name == key or name.startswith(f"{key}.") for name in names)


def sweep_arguments() -> list[str] | None:
    """The command line of this one job of a sweep; None where it is not one of a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return list(HydraConfig.get().overrides.task)


def register_resolvers() -> None:
    from scsave.runs.search import study_name, study_storage, trials_left

    for resolver in (run_dir, named_after, study_name, study_storage, trials_left):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def one_line(error: Exception) -> str:
    """Hydra's and OmegaConf's many lines as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("object_type=", "full_key:", "reference_type="))]
    text = "; ".join(lines).replace(":;", ":")
    text = text.split("; Config search path")[0].removeprefix("UserError raised while resolving interpolation: ")
    if text.startswith("Could not override '"):
        return f"{text.split(chr(39))[1]}: unknown key; `python train.py --cfg job` shows every key"
    if any(sign in text for sign in _UNREADABLE):
        return f"{text.split('; See https')[0]}; {_QUOTES}"
    for option, extra in _EXTRAS.items():
        if f"Could not find '{option}'" in text:
            group, _, name = option.rpartition("/")
            return f"{group}={name} needs a package that is not installed: make setup EXTRAS=dev,{extra}"
    return text.removeprefix("In 'train': ")


def guarded(cfg: DictConfig) -> float | None:
    """One job. A user's mistake ends a single run with its line and exit code 2; in a sweep the others go on."""
    from scsave.runs.run import run

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        return run(cfg, folder)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        if not (cfg.resume or cfg.ckpt):
            with suppress(OSError):  # another job may be at work beside it
                remove_if_empty(folder, Path(cfg.paths.outputs))
        fail(str(error))
    except KeyboardInterrupt as stopped:
        print(f"\n{stopped or 'stopped'}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def remove_if_empty(folder: Path, outputs: Path) -> None:
    """The folder that Hydra made below `outputs` for a run that was refused before it began, if its log is all that is in it."""
    outputs, folder = outputs.resolve(), folder.resolve()
    if outputs not in folder.parents or {path.name for path in folder.iterdir()} - {LOG}:
        return
    (folder / LOG).unlink(missing_ok=True)
    while folder != outputs and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def entry(main: Callable[[], Any]) -> None:
    # Hydra would print its own many lines; with this set it raises, and we print one.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        main()
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(one_line(error))
    except ValueError as error:
        if "No trials are completed" not in str(error):
            raise
        fail("every trial of the search failed; the lines `Failed experiment` above say why")
