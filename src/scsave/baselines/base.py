"""Base classes of the baselines: every task refused until a class offers it, and cells made of a predicted change."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData

from scsave.baselines.carry import carried_groups
from scsave.baselines.predicted import shifted_cells
from scsave.data.from_anndata import as_prepared, with_genes
from scsave.data.splits.split import Split
from scsave.data.targets import Targets
from scsave.errors import UserError
from scsave.keys import Columns

SHIFT, CARRY = "shift", "carry"  # the two ways of making cells of a predicted change of the mean


@dataclass(kw_only=True)
class Baseline:
    """An ordinary method; a class overrides what its tasks need. `name` is its row in every table."""

    name: str = "baseline"
    tasks: ClassVar[frozenset[str]] = frozenset()
    routes: ClassVar[tuple[str, ...]] = ()
    beside: tuple[str, ...] = field(init=False, repr=False, default=())
    cost: dict[str, Any] = field(init=False, repr=False, default_factory=dict)

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any = None) -> None:
        """Learn from `data[split.train]`; of `options`, how a run trains, a baseline reads the accelerator at most."""
        raise NotImplementedError

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        raise self._cannot("generation")

    def integrate(self, data: AnnData, seed: int, reference: str | None = None) -> AnnData:
        raise self._cannot("batch_correction")

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        raise self._cannot("perturbation")

    def trust(self, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
        """Nothing is held out to say how far to trust a prediction."""
        return None

    def save(self, folder: str | Path) -> None:
        """Most baselines are fitted anew in seconds and keep nothing; see `Learned` for those that do."""

    def restore(self, folder: str | Path, device: str = "cpu") -> bool:
        """Take up what `save` wrote; False where nothing is kept, so that the caller fits."""
        return False

    def needs(self, route: str) -> str | None:
        """The part of SAVE's networks that a route of `respond` needs trained: none."""
        return None

    def complete(self, data: AnnData, split: Split, columns: Columns, seed: int, options: Any) -> bool:
        """What `restore` took up is whole."""
        return False

    @property
    def info(self) -> dict[str, Any]:
        """What was chosen in fitting, for results.json."""
        return {}

    def _cannot(self, task: str) -> UserError:
        return UserError(f"method={self.name} has no {task}; it serves task={' or '.join(sorted(self.tasks))}")

    def _check_route(self, route: str | None) -> str:
        """The route, by default the first; UserError for one that the method does not have."""
        if route is not None and route not in self.routes:
            raise UserError(f"method={self.name}: no route '{route}'; it has: {', '.join(self.routes)}")
        return route or self.routes[0]

    def _closed_form(self, parameters: int, cells: int) -> None:
        """Record the budget of a baseline that is computed, not trained."""
        self.cost = {"parameters": int(parameters), "steps": 0, "cells_seen": int(cells)}


class Learned:
    """Mixin of the baselines that can be saved, in `<folder>/model.ckpt`: attributes of plain types, and arrays as tensors."""

    name: str
    plain: ClassVar[tuple[str, ...]]
    arrays: ClassVar[tuple[str, ...]]

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain types and tensors."""
        import torch

        arrays = {name: torch.from_numpy(np.array(getattr(self, name), order="C")) for name in self.arrays}
        return {name: getattr(self, name) for name in self.plain} | arrays

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name in self.plain:
            setattr(self, name, state[name])
        for name in self.arrays:
            setattr(self, name, state[name].numpy())

    def save(self, folder: str | Path) -> None:
        from scsave.models.checkpoint import FILE, write_checkpoint

        write_checkpoint(Path(folder) / FILE, {"method": self.name, "learned": self.state()})

    def restore(self, folder: str | Path, device: str = "cpu") -> bool:
        """True once taken up; False where the folder has no such file. UserError where it is another method's."""
        from scsave.models.checkpoint import FILE, read_checkpoint

        path = Path(folder) / FILE
        if not path.is_file():
            return False
        self.load_state(read_checkpoint(path, self.name)["learned"])
        return True


@dataclass(kw_only=True)
class Response(Baseline):
    """Predicts the change of the mean log1p expression, (G,), of each cell type's control cells under a perturbation.

    Cells are made of it in one of two ways. By `shift` every control cell moves by the change, below zero too, and the
    mean by exactly that much. With `carry=True` control cells gain and lose whole molecules until their mean is there
    (`carry.py`), as SAVE's predictions do, so that distances between distributions compare like with like.
    """

    carry: bool = False
    targets: Targets | None = field(init=False, repr=False, default=None)  # of training, where levels are perturbed
    tasks: ClassVar[frozenset[str]] = frozenset({"perturbation"})

    @property
    def routes(self) -> tuple[str, ...]:
        return (CARRY if self.carry else SHIFT,)

    def change_of(self, cells: AnnData, target: str) -> np.ndarray:
        """Predicted change, (G,), of the mean of control cells of one type. UserError for an unknown target."""
        raise NotImplementedError

    def respond(self, control: AnnData, target: str, seed: int, route: str | None = None) -> AnnData:
        """The cells of `control` as they would be under `target`, in their order, each type by its own change."""
        self._check_route(route)
        control = with_genes(as_prepared(control), self.genes)
        groups = self.groups(control)
        if self.carry:
            made = carried_groups(
                control, groups, lambda cells: self.change_of(cells, target), self.key, target, seed, self.name
            )
        else:
            change = np.zeros(control.shape)  # (N, G)
            for here in groups:
                change[here] = self.change_of(control[here], target)
            made = shifted_cells(control, change, self.key, target, self.name)
        return self._named(made, target)

    def _named(self, made: AnnData, target: str) -> AnnData:
        """Predicted cells with every column of the perturbation as the target says."""
        if self.further and self.targets is not None:
            made.obs = self.targets.assigned(made.obs, target)
        return made

    def groups(self, control: AnnData) -> list[np.ndarray]:
        """Positions of the cells of each type, by name; all cells where there is no column of types."""
        if self.type_key is None or self.type_key not in control.obs:
            return [np.arange(control.n_obs)]
        codes, levels = pd.factorize(control.obs[self.type_key].astype(str), sort=True)
        return [np.flatnonzero(codes == code) for code in range(len(levels))]

    def _learn_columns(self, data: AnnData, columns: Columns) -> None:
        """The columns and genes that a prediction needs; UserError where no perturbation is named."""
        if columns.perturbation is None or columns.control is None:
            raise UserError(f"method={self.name}: {columns.name} names no perturbation_key and control")
        self.key, self.control, self.type_key = columns.perturbation, columns.control, columns.cell_type
        self.further = list(columns.perturbation_columns or [])
        self.genes = list(data.var_names)
