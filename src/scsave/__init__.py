"""scsave: multi-condition single-cell generation with gene block attention, reproduced and measured."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["SAVE", "__version__"]

if TYPE_CHECKING:
    from scsave.save import SAVE


def __getattr__(name: str) -> Any:
    # torch is imported when the model is first asked for, not with the package
    if name == "SAVE":
        from scsave.save import SAVE

        return SAVE
    raise AttributeError(f"module 'scsave' has no attribute {name!r}")
