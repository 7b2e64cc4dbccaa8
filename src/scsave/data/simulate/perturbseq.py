"""`data=simulated_perturbseq`: genetic perturbations whose effects are known, and written in the genes' vectors.

Gene g has a vector v_g. Perturbing p moves the log rates by delta_p, perturbing p and q by delta_p + delta_q + I_pq:
    delta_p = effect_sd * (A v_p) P + self_effect * e_p      A v_p: activity of the programs, P: programs x genes
    I_pq    = interaction_sd * sum_r (a_r . v_p)(a_r . v_q) Q_r
so both can be predicted for genes never perturbed, from their vectors alone, unless `informative=false`: then the
vectors that are given away have nothing to do with those that the effects come from.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.data.files import file_checksum
from scsave.data.perturbations import SEPARATOR
from scsave.data.read import RawCells, in_memory
from scsave.data.simulate import cells
from scsave.data.simulate.cells import draw_counts, gene_names, module_vectors, planted_modules
from scsave.data.source import DataSource
from scsave.errors import UserError


def unit(values: np.ndarray) -> np.ndarray:
    """Values of root mean square 1, so that the planted strength does not depend on the seed."""
    return values / np.sqrt(np.mean(values**2)) if values.size else values


@dataclass(kw_only=True)
class SimulatedPerturbSeq(DataSource):
    """Control, `n_targets` singles and `n_doubles` pairs; the truth is in `uns["simulated"]`.

    The first `n_targets` genes of a random order are perturbed; `control_share` of the cells are control, the others
    spread unevenly (at least 10 each), in `n_groups` batches with small effects.
    """

    n_cells: Annotated[int, Field(gt=0)] = 8000
    n_genes: Annotated[int, Field(gt=1)] = 500
    n_targets: Annotated[int, Field(gt=1)] = 40
    n_doubles: Annotated[int, Field(ge=0)] = 60
    n_modules: Annotated[int, Field(gt=0)] = 8
    n_programs: Annotated[int, Field(gt=0)] = 6
    interaction_rank: Annotated[int, Field(gt=0)] = 1
    n_groups: Annotated[int, Field(gt=0)] = 2
    effect_sd: Annotated[float, Field(ge=0)] = 0.5
    interaction_sd: Annotated[float, Field(ge=0)] = 0.8
    self_effect: float = 1.5
    program_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    control_share: Annotated[float, Field(gt=0, lt=1)] = 0.08
    library_median: Annotated[float, Field(gt=0)] = 3000.0
    library_sd: Annotated[float, Field(ge=0)] = 0.35
    base_sd: Annotated[float, Field(ge=0)] = 1.2
    module_sd: Annotated[float, Field(ge=0)] = 0.2
    batch_sd: Annotated[float, Field(ge=0)] = 0.1
    dispersion: Annotated[float, Field(gt=0)] = 10.0
    vector_size: Annotated[int, Field(gt=0)] = 16
    vector_noise: Annotated[float, Field(ge=0)] = 0.5
    informative: bool = True
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        pairs = self.n_targets * (self.n_targets - 1) // 2
        if self.n_targets > self.n_genes or self.n_doubles > pairs:
            raise UserError(
                f"data.n_targets={self.n_targets} and data.n_doubles={self.n_doubles} do not fit: at most "
                f"data.n_genes={self.n_genes} targets and {pairs} doubles of them"
            )
        least = 10 * (self.n_targets + self.n_doubles) / (1 - self.control_share)
        if self.n_cells < least:
            raise UserError(f"data.n_cells={self.n_cells} is under 10 cells a perturbation; give at least {least:.0f}")

    def truth(self) -> dict[str, Any]:
        """What the counts are drawn from: effects (targets, G), interactions (doubles, G), vectors (G, size)..."""
        rng = np.random.default_rng(self.seed)
        modules = planted_modules(self.n_genes, self.n_modules, rng)
        vectors = module_vectors(modules, self.vector_noise, rng, self.vector_size).astype(np.float64)
        targets = rng.permutation(self.n_genes)[: self.n_targets]

        def programs(count: int) -> np.ndarray:
            weights = rng.normal(size=(count, self.n_genes))
            return np.where(rng.random((count, self.n_genes)) < self.program_share, weights, 0.0)

        scale = 1 / np.sqrt(self.vector_size * (1 + self.vector_noise**2))
        activity = vectors[targets] @ rng.normal(scale=scale, size=(self.vector_size, self.n_programs))
        effects = self.effect_sd * unit(activity) @ programs(self.n_programs)
        effects[np.arange(self.n_targets), targets] += self.self_effect
        pairs = np.array(list(combinations(range(self.n_targets), 2)), dtype=np.int64).reshape(-1, 2)
        doubles = pairs[np.sort(rng.choice(len(pairs), self.n_doubles, replace=False))]
        partner = vectors[targets] @ rng.normal(scale=scale, size=(self.vector_size, self.interaction_rank))
        strength = partner[doubles[:, 0]] * partner[doubles[:, 1]]  # (doubles, rank)
        given = vectors if self.informative else rng.normal(scale=vectors.std(), size=vectors.shape)
        return {
            "genes": gene_names(self.n_genes),
            "module": modules,
            "base": rng.normal(scale=self.base_sd, size=self.n_genes),
            "loading": np.abs(rng.normal(1.0, 0.25, size=self.n_genes)),
            "batch_effect": rng.normal(scale=self.batch_sd, size=(self.n_groups, self.n_genes)),
            "targets": targets,
            "doubles": doubles,  # positions in `targets`
            "effects": effects,
            "interactions": self.interaction_sd * unit(strength) @ programs(self.interaction_rank),
            "gene_vectors": given.astype(np.float32),
        }

    def shifts(self, truth: dict[str, Any]) -> np.ndarray:
        """Change of the log rates under control, each single and each double, (1 + targets + doubles, G)."""
        effects, doubles = truth["effects"], truth["doubles"]
        pairs = effects[doubles[:, 0]] + effects[doubles[:, 1]] + truth["interactions"]
        return np.vstack([np.zeros(self.n_genes), effects, pairs])

    def labels(self, truth: dict[str, Any]) -> np.ndarray:
        """Canonical name of each row of `shifts`, object."""
        names = truth["genes"][truth["targets"]]
        pairs = [SEPARATOR.join(sorted(names[pair])) for pair in truth["doubles"]]
        return np.array([self.control, *names, *pairs], dtype=object)

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        return in_memory(lambda: self.draw(cache))

    def checksum(self, cache: Path) -> str:
        return " ".join(file_checksum(Path(module)) for module in (__file__, cells.__file__))

    def draw(self, folder: Path | None = None) -> AnnData:
        """The cells, counts in X (large ones in files of `folder`), the truth in `uns`."""
        truth, rng = self.truth(), np.random.default_rng([self.seed, 1])
        perturbed = self.n_targets + self.n_doubles
        n_control = round(self.n_cells * self.control_share)
        free = self.n_cells - n_control - 10 * perturbed
        uneven = rng.choice(perturbed, size=free, p=rng.dirichlet(np.full(perturbed, 5.0)))
        each = 1 + np.repeat(np.arange(perturbed), 10)
        kind = rng.permutation(np.concatenate([np.zeros(n_control, dtype=np.int64), each, 1 + uneven]))
        group = rng.integers(self.n_groups, size=self.n_cells)
        library = np.exp(np.log(self.library_median) + self.library_sd * rng.normal(size=self.n_cells))
        activity = self.module_sd * rng.normal(size=(self.n_cells, self.n_modules))
        shifts = self.shifts(truth)

        def log_rate(rows: np.ndarray) -> np.ndarray:
            own = activity[rows][:, truth["module"]] * truth["loading"]
            return truth["base"] + own + truth["batch_effect"][group[rows]] + shifts[kind[rows]]

        obs = pd.DataFrame(
            {
                "condition": self.labels(truth)[kind],
                "gem_group": np.array([f"group_{b + 1}" for b in range(self.n_groups)], dtype=object)[group],
            },
            index=[f"cell_{i}" for i in range(self.n_cells)],
        )
        var = pd.DataFrame(index=truth["genes"])
        counts = draw_counts(log_rate, library, self.dispersion, rng, folder)
        return AnnData(X=counts, obs=obs, var=var, uns={keys.SIMULATED: truth})
