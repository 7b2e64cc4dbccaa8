"""The rows of the registry: `ROWS` of every file here, so that a new task brings its own by one file."""

from importlib import import_module
from pkgutil import iter_modules

ROWS = tuple(
    row
    for module in sorted(m.name for m in iter_modules(__path__))
    for row in import_module(f"{__name__}.{module}").ROWS
)
