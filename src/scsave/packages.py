"""Packages that only some baselines need: imported when asked for, missed with the command that installs them."""

import importlib
import warnings
from dataclasses import dataclass
from types import ModuleType

from scsave.errors import UserError


@dataclass(frozen=True)
class Needs:
    """A package by the name that it is imported by, the one that it is installed by, and the extra that has it."""

    module: str
    package: str
    extra: str = "baselines"


def require(needs: Needs, baseline: str) -> ModuleType:
    """The imported module; raises UserError with the install command where its package is absent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(needs.module)
    except ModuleNotFoundError as error:
        if error.name != needs.module.split(".")[0]:
            raise
        how = "which is not installed: make setup EXTRAS=dev,baselines"
        raise UserError(f"method={baseline} needs the package {needs.package}, {how}") from None
