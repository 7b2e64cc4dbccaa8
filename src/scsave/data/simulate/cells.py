"""`data=simulated`: counts from a known model, so that what a method finds can be checked against what was put in.

For cell i of type k, batch b, treatment a, and gene g of module m:
    eta_ig = base_g + loading_g * (type_module_km + activity_im) + marker_kg + batch_bg + [a treated] * effect_kg
    (with doses the effect is times d_i / (d_i + geometric mean of the doses); each of several drugs has its own effect)
    p_i    = softmax(eta_i),   L_i ~ LogNormal(log median_kb, library_sd),   x_ig ~ NB(L_i p_ig, dispersion)
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.data.files import file_checksum
from scsave.data.read import RawCells, in_memory
from scsave.data.source import DataSource
from scsave.errors import UserError
from scsave.stats.mapped import stacked

ROWS = 2048  # cells drawn at a time
VECTOR_SIZE = 32


def planted_modules(n_genes: int, n_modules: int, rng: np.random.Generator) -> np.ndarray:
    """Module of each gene, sizes differing by at most one, in random order, (G,)."""
    return rng.permutation(np.arange(n_genes) % n_modules)


def gene_names(n_genes: int) -> np.ndarray:
    """GENE00000 and so on, (G,) object: the order of every array over genes in the truth."""
    return np.array([f"GENE{g:05d}" for g in range(n_genes)], dtype=object)


def module_vectors(modules: np.ndarray, noise: float, rng: np.random.Generator, size: int = VECTOR_SIZE) -> np.ndarray:
    """One vector a gene, (G, size) float32: its module's centre plus noise. What a text says of a gene, in small."""
    centres = rng.normal(size=(modules.max() + 1, size))
    return (centres[modules] + noise * rng.normal(size=(len(modules), size))).astype(np.float32)


def negative_binomial(mean: np.ndarray, dispersion: float, rng: np.random.Generator) -> np.ndarray:
    """Counts of variance mean + mean^2 / dispersion, the shape of `mean`."""
    return rng.poisson(rng.gamma(dispersion, mean / dispersion))


def draw_counts(
    log_rate, library: np.ndarray, dispersion: float, rng: np.random.Generator, folder: Path | None = None
) -> sp.csr_matrix:
    """Counts (N, G) float32, large ones in files of `folder`; `log_rate(rows) -> (n, G)` is asked for `ROWS` cells at a time."""
    return stacked(((part,) for part in _drawn(log_rate, library, dispersion, rng)), folder)[0]


def _drawn(log_rate, library: np.ndarray, dispersion: float, rng: np.random.Generator) -> Iterator[sp.csr_matrix]:
    for start in range(0, len(library), ROWS):
        rows = np.arange(start, min(start + ROWS, len(library)))
        rate = log_rate(rows)
        rate = np.exp(rate - rate.max(axis=1, keepdims=True))
        rate *= (library[rows] / rate.sum(axis=1))[:, None]
        yield sp.csr_matrix(negative_binomial(rate, dispersion, rng).astype(np.float32))


@dataclass(kw_only=True)
class Simulated(DataSource):
    """Cell types, batches, treatments and planted gene modules; the truth is in `uns["simulated"]`.

    `type_specific` is the share of a treated gene's effect that differs between types (0: one effect for all).
    """

    n_cells: Annotated[int, Field(gt=0)] = 2000
    n_genes: Annotated[int, Field(gt=1)] = 600
    n_types: Annotated[int, Field(gt=0)] = 5
    n_batches: Annotated[int, Field(gt=0)] = 3
    n_modules: Annotated[int, Field(gt=0)] = 6
    library_median: Annotated[float, Field(gt=0)] = 2000.0
    library_sd: Annotated[float, Field(ge=0)] = 0.35
    dispersion: Annotated[float, Field(gt=0)] = 4.0
    module_sd: Annotated[float, Field(ge=0)] = 0.4
    type_sd: Annotated[float, Field(ge=0)] = 0.6
    marker_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    batch_sd: Annotated[float, Field(ge=0)] = 0.25
    effect_share: Annotated[float, Field(ge=0, le=1)] = 0.15
    effect_sd: Annotated[float, Field(ge=0)] = 1.0
    type_specific: Annotated[float, Field(ge=0, le=1)] = 0.2
    vector_noise: Annotated[float, Field(ge=0)] = 0.3
    n_drugs: Annotated[int, Field(gt=0)] = 1
    doses: list[Annotated[float, Field(gt=0)]] = field(default_factory=list)
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_modules > self.n_genes:
            raise UserError(f"data.n_modules={self.n_modules} is more than data.n_genes={self.n_genes}")
        if self.n_cells < 2 * self.n_types * self.n_batches:
            raise UserError(
                f"data.n_cells={self.n_cells} leaves some of the {2 * self.n_types * self.n_batches} groups empty"
            )

    def truth(self) -> dict[str, Any]:
        """Everything that the counts are drawn from, arrays by name: what `uns["simulated"]` holds."""
        rng = np.random.default_rng(self.seed)
        genes, types, batches = self.n_genes, self.n_types, self.n_batches
        modules = planted_modules(genes, self.n_modules, rng)
        marker = rng.random((types, genes)) < self.marker_share
        treated = rng.random(genes) < self.effect_share
        shared = rng.normal(scale=self.effect_sd, size=genes)
        own = rng.normal(scale=self.effect_sd, size=(types, genes))
        s, further = self.type_specific, np.random.default_rng([self.seed, 2])  # the first drug is as without others
        shape = (self.n_drugs - 1, types, genes)
        hit = further.random(shape[::2]) < self.effect_share
        common = further.normal(scale=self.effect_sd, size=shape[::2])
        others = (1 - s) * common[:, None] + s * further.normal(scale=self.effect_sd, size=shape)
        effect = np.where(treated, (1 - s) * shared + s * own, 0.0)
        return {
            "genes": gene_names(genes),
            "module": modules,
            "base": rng.normal(scale=1.2, size=genes),
            "loading": np.abs(rng.normal(1.0, 0.25, size=genes)),
            "type_module": rng.normal(scale=self.type_sd, size=(types, self.n_modules)),
            "marker": np.where(marker, np.abs(rng.normal(1.5, 0.5, size=(types, genes))), 0.0),
            "batch_effect": np.vstack([np.zeros(genes), rng.normal(scale=self.batch_sd, size=(batches - 1, genes))]),
            "treatment_effect": effect,
            "drug_effect": np.concatenate([effect[None], np.where(hit[:, None], others, 0.0)]),
            "log_library": np.log(self.library_median)
            + rng.normal(scale=0.25, size=(types, 1))
            + rng.normal(scale=0.15, size=(1, batches)),
            "dispersion": self.dispersion,
            "types": np.array([f"type_{chr(65 + k) if types <= 26 else k}" for k in range(types)], dtype=object),
            "batches": np.array([f"batch_{b + 1}" for b in range(batches)], dtype=object),
            "gene_vectors": module_vectors(modules, self.vector_noise, rng),
        }

    def log_rates(
        self, truth: dict[str, Any], kind: np.ndarray, batch: np.ndarray, treated: np.ndarray, drug: Any = 0
    ) -> np.ndarray:
        """eta without the cells' own module activity, (N, G), for types, batches and drugs (int) and treatment (bool, or how
        much of the effect), (N,)."""
        module = truth["loading"] * truth["type_module"][:, truth["module"]]
        return (
            truth["base"]
            + (module + truth["marker"])[kind]
            + truth["batch_effect"][batch]
            + treated[:, None] * truth["drug_effect"][drug, kind]
        )

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return in_memory(lambda: self.draw(cache))

    def checksum(self, cache: Path) -> str:
        return file_checksum(Path(__file__))  # the model is its code: other code, other cells

    def draw(self, folder: Path | None = None) -> AnnData:
        """The cells, counts in X (large ones in files of `folder`), the truth in `uns`."""
        truth = self.truth()
        rng = np.random.default_rng([self.seed, 1])
        groups = 2 * self.n_types * self.n_batches
        share = rng.dirichlet(np.full(groups, 10.0))
        group = np.concatenate([np.arange(groups).repeat(2), rng.choice(groups, size=self.n_cells, p=share)])
        group = rng.permutation(group[: self.n_cells])
        kind, batch, treated = np.unravel_index(group, (self.n_types, self.n_batches, 2))
        library = np.exp(truth["log_library"][kind, batch] + self.library_sd * rng.normal(size=self.n_cells))
        activity = self.module_sd * rng.normal(size=(self.n_cells, self.n_modules))
        further = np.random.default_rng([self.seed, 3])
        drug, dose = further.integers(self.n_drugs, size=self.n_cells), np.where(treated, 1.0, 0.0)
        if self.doses:
            dose = np.where(treated, further.choice(self.doses, size=self.n_cells), 0.0)
        strength = dose / (dose + np.exp(np.mean(np.log(self.doses)))) if self.doses else dose

        def log_rate(rows: np.ndarray) -> np.ndarray:
            own = activity[rows][:, truth["module"]] * truth["loading"]
            return self.log_rates(truth, kind[rows], batch[rows], strength[rows], drug[rows]) + own

        counts = draw_counts(log_rate, library, self.dispersion, rng, folder)
        names = np.array([f"drug_{n + 1}" for n in range(self.n_drugs)] if self.n_drugs > 1 else ["stimulated"])
        obs = pd.DataFrame(
            {
                "cell_type": truth["types"][kind],
                "batch": truth["batches"][batch],
                "treatment": np.where(treated, names[drug], "control"),
            }
            | ({"dose": dose} if self.doses else {}),
            index=[f"cell_{i}" for i in range(self.n_cells)],
        )
        var = pd.DataFrame(index=truth["genes"])
        return AnnData(X=counts, obs=obs, var=var, uns={keys.SIMULATED: truth})
