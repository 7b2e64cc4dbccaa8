"""Packages that only some baselines need: imported when asked for, missed with the command that installs them."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from scsave.errors import UserError


def require(module: str, package: str, baseline: str) -> ModuleType:
    """The imported module; raises UserError with the install command where its package is absent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise UserError(
            f"baseline={baseline} needs the package {package}, which is not installed: make setup EXTRAS=dev,baselines"
        ) from None
