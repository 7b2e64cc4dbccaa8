"""scsave: multi-condition single-cell generation with gene block attention, reproduced and measured."""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["SAVE", "__version__"]

# POT imports every array library that it finds, jax among them, which takes seconds and is not used
for _backend in ("JAX", "TENSORFLOW", "CUPY"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")

if TYPE_CHECKING:
    from scsave.method.save import SAVE


def __getattr__(name: str) -> Any:
    # torch is imported when the model is first asked for, not with the package
    if name == "SAVE":
        from scsave.method.save import SAVE

        return SAVE
    raise AttributeError(f"module 'scsave' has no attribute {name!r}")
