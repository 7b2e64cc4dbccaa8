"""The command line: one job of train.py, and what a user's mistake or Ctrl-C looks like. Imports nothing heavy."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scsave.compose import compose, config_folder, named_after
from scsave.errors import UserError, nearest
from scsave.files import unwritable
from scsave.runs.naming import run_dir
from scsave.runs.search import study_name, study_storage, trials_left

INTERRUPTED = 130
LOG = "train.log"  # Hydra's own, of the job
# Groups and keys of earlier versions, and what stands in their place.
_RENAMED = {
    "baseline": "method (baseline=none is method=save)",
    "response": "method=type_process (levels) or method=set_process (sets of genes)",
    "task_default": "keys of the groups themselves",
    "training.trust_steps": "training.cells_steps",
}
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
    """or signs: 'condition={cell type: "B cell (naive)"}'; in a column's name a backslash before each sign, no quotes: """
    r"""'condition={cell type \(broad\): B}'"""
)


def register_resolvers() -> None:
    for resolver in (run_dir, named_after, study_name, study_storage, trials_left):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def one_line(error: Exception) -> str:
    """Hydra's and OmegaConf's many lines as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("object_type=", "full_key:", "reference_type="))]
    text = "; ".join(lines).replace(":;", ":")
    text = text.split("; Config search path")[0]
    text = re.sub(
        r"^(\w+ raised while resolving interpolation: )*(?<=UserError raised while resolving interpolation: )", "", text
    )
    if text.startswith("Could not override '"):
        key = text.split("'")[1]
        if new := _RENAMED.get(key, _RENAMED.get(key.split(".")[0].split("@")[0])):
            return f"{key}: this is called {new} now"
        return f"{key}: unknown key{nearest(key, every_key(), 0.75)}; `python train.py --cfg job` shows every key"
    if any(sign in text for sign in _UNREADABLE):
        return f"{text.split('; See https')[0]}; {_QUOTES}"
    for option, extra in _EXTRAS.items():
        if f"Could not find '{option}'" in text:
            group, _, name = option.rpartition("/")
            return f"{group}={name} needs a package that is not installed: make setup EXTRAS=dev,{extra}"
    text = text.removeprefix("In 'train': ")
    if text.startswith("Could not find '") and "Available options in '" in text:
        options = [option.strip() for option in text.rpartition(": ")[2].split(";")]
        return text + nearest(text.split("'")[1].rpartition("/")[2], options, 0.75)
    return text


def every_key() -> list[str]:
    """Keys of the config under the options that the command line picks, `training.lr` and the groups."""
    given = [(argument.partition("=")[0], argument) for argument in sys.argv[1:] if "," not in argument]
    picks = [one for key, one in given if key[:1].isalpha() and (config_folder() / key).is_dir()]
    try:
        cfg = compose(picks)
    except (HydraException, OmegaConfBaseException):
        cfg = compose([])
    return list(_flat(cfg, ""))


def _flat(node: DictConfig, where: str) -> Iterator[str]:
    for key in node:
        yield f"{where}{key}"
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_interpolation():
            yield from _flat(inner, f"{where}{key}.")


def guarded(cfg: DictConfig) -> float | None:
    """One job. A user's mistake ends a single run with its line and exit code 2; in a sweep the others go on."""
    from scsave.runs.run import run

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with plain_faults():
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


@contextmanager
def plain_faults() -> Iterator[None]:
    """A place that can't be written to is no fault of the program, whoever tries to write there: one line."""
    try:
        yield
    except (OSError, ValueError) as error:  # logging makes a ValueError of the system's
        if why := unwritable(error):
            where = f"{error.filename}: " if getattr(error, "filename", None) else ""
            hint = "set paths.outputs and paths.cache to folders with room"
            raise UserError(f"{where}cannot be written ({why}); {hint}") from error
        raise


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
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda given: given not in ("-m", "--multirun"))  # argparse wants it first
    logging.raiseExceptions = False  # a log that has no room left is no traceback a line: what the run is for says so
    try:
        with plain_faults():
            main()
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(one_line(error))
    except ValueError as error:
        if "Config group override" in str(error):
            fail(f"{one_line(error)}; {_QUOTES}")
        if "No trials are completed" not in str(error):
            raise
        fail("every trial of the search failed; the lines `Failed experiment` above say why")
