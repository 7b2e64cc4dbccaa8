"""What a response head is: the mean change of cells under a perturbation, learned from the means of training groups."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from anndata import AnnData

from scsave.keys import Columns


class ResponseHead(Protocol):
    """An option of the config group `response`. It sees training cells in `fit`, and control cells in `change`."""

    def fit(self, train: AnnData, columns: Columns, seed: int) -> None:
        """Learn from prepared training cells, control among them."""

    def change(self, control: AnnData, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean log1p expression of the cells of `control`, one group, under `target`.

        Raises UserError for a target that can't be predicted.
        """

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain types and tensors: it goes into the checkpoint."""

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
