"""SAVE as a method of a run (`method=save`): it fits, keeps its weights, and predicts what a task asks for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from anndata import AnnData

from scsave.data.splits.split import Split
from scsave.errors import UserError
from scsave.keys import COMBINED, Columns
from scsave.method.fit import Parts, extend, fit
from scsave.method.fitted import METHOD, Fitted, Sampler
from scsave.method.integrate import integrate
from scsave.method.respond import ROUTES, respond
from scsave.method.sample import generate
from scsave.method.trust import trust_of
from scsave.models.checkpoint import FILE
from scsave.training.options import FitOptions


@dataclass(kw_only=True, eq=False)
class SaveMethod(Parts):
    """The `Method` protocol (`scsave.protocol`) over a `Fitted`."""

    model: Fitted | None = field(init=False, repr=False, default=None)
    name: ClassVar[str] = METHOD
    tasks: ClassVar[frozenset[str]] = frozenset({"generation", "batch_correction", "perturbation"})
    routes: ClassVar[tuple[str, ...]] = tuple(ROUTES)

    @staticmethod
    def needs(route: str) -> str:
        """The part of the model that a route of `respond` needs: `scsave.training.stages.PARTS`."""
        return ROUTES[route][0]

    @property
    def beside(self) -> tuple[str, ...]:
        """Route `combined`, unless the fitted model found no weight for it."""
        return (COMBINED,) if self.model is None or self.model.info.get(COMBINED) else ()

    @property
    def cost(self) -> dict[str, Any]:
        return self.fitted.cost

    @property
    def info(self) -> dict[str, Any]:
        return self.fitted.info

    @property
    def fitted(self) -> Fitted:
        if self.model is None:
            raise UserError("this SAVE has no weights yet: call fit(...) or restore(<run directory>)")
        return self.model

    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions | None = None) -> None:
        """Learn from `data[split.train]`; `data[split.val]` is for the loss curves."""
        self.model = fit(self.nodes, data, split, columns, seed, options or FitOptions())

    def save(self, folder: Path) -> None:
        """Keep the weights in `folder`."""
        self.fitted.save(folder)

    def restore(self, folder: Path, device: str = "cpu") -> bool:
        """Take the weights that `save` left in `folder`, if there are any; sampling is as this method's config says."""
        if not (Path(folder) / FILE).is_file():
            return False
        self.model = Fitted.load(Path(folder) / FILE, device)
        self.model.sampler = Sampler.of(self.objective, self.sampling)
        return True

    def complete(self, data: AnnData, split: Split, columns: Columns, seed: int, options: FitOptions) -> bool:
        """Train the parts that `options` asks for and a restored model lacks; was there one?"""
        if not options.parts - set(self.fitted.info["parts"]):
            return False
        extend(self.fitted, self.nodes, data, split, columns, seed, options)
        return True

    def generate(self, obs: pd.DataFrame, seed: int) -> AnnData:
        return generate(self.fitted, obs, seed=seed)

    def integrate(self, data: AnnData, seed: int, reference: str | None = None) -> AnnData:
        return integrate(self.fitted, data, reference)

    def respond(self, control: AnnData, target: str, seed: int, route: str) -> AnnData:
        return respond(self.fitted, control, target, seed, route)

    def trust(self, control: AnnData | None, target: str, route: str | None = None) -> dict[str, float] | None:
        return trust_of(self.fitted, control, target, route)
