"""SAVE as a method: fit, generate, encode, decode, save, load. Three lines are enough:

from scsave import SAVE
model = SAVE.load("outputs/generation/pbmc68k/scsave/<hash>")
cells = model.generate(500, {"bulk_labels": "CD19+ B", "phase": "G1"})
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scsave import __version__, keys
from scsave.blocking.blocks import GeneBlocks
from scsave.blocking.schemes import BlockingContext
from scsave.components import Node, build
from scsave.data.conditions import Conditions, Values
from scsave.data.dataset import CellDataset
from scsave.data.gene_selection import select_cells
from scsave.decoding import batches, decoded, inference, on
from scsave.errors import UserError
from scsave.flow.guidance import Weight, guided
from scsave.integrate import Route, integrate
from scsave.models.checkpoint import read_checkpoint, write_checkpoint
from scsave.models.model import SAVEModel
from scsave.response.base import ResponseHead
from scsave.response.perturbed_genes import gene_set_columns, text_vectors
from scsave.response.routes import respond
from scsave.training.fitting import Networks, Workshop, fit_stages
from scsave.training.loader import CellRows
from scsave.training.statistics import gene_moments, library_range

if TYPE_CHECKING:
    from scsave.data.source import DataSource
    from scsave.data.splits import Split

log = logging.getLogger(__name__)


class SAVE:
    """A multi-condition generative model of single cells. Components are config nodes (dicts with a `_target_`)."""

    name = "scsave"
    tasks = frozenset({"generation", "batch_correction", "perturbation"})
    routes = ("response", "transfer", "generate", "translate")

    def __init__(
        self,
        *,
        backbone: Node,
        likelihood: Node,
        objective: Node,
        solver: Node,
        guidance: Weight = 1.0,
        blocking: Node | None = None,
        training: Node | None = None,
        response: Node | None = None,
        conditions: list[str] | None = None,
        decoder_conditions: list[str] | None = None,
        networks: Networks = "flow",
        workshop: Workshop | None = None,
        cache: Path | None = None,
    ):
        self.components = {"backbone": backbone, "likelihood": likelihood, "objective": objective, "solver": solver}
        self.objective = build(objective, "objective")
        self.solver = build(solver, "sampling.solver")
        self.plan = training and build(training, "training")
        if self.plan:
            self.plan.check_guidance(guidance)
        self.scheme = blocking and build(blocking, "blocking")
        self.head: ResponseHead | None = response and build(response, "response")
        self.components |= {"response": response} if response else {}
        self.guidance, self.networks = guidance, networks
        self.told, self.decoder_conditions = conditions, decoder_conditions
        self.workshop, self.cache = workshop or Workshop(), cache or Path("data/cache")
        self.cost: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.device = torch.device("cpu")
        self.model: SAVEModel | None = None

    # --- training ---
    def fit(self, data: AnnData, split: Split, source: DataSource, seed: int = 0) -> None:
        """Learn blocks, vocabulary, scale and weights from `data[split.train]`; `split.val` is for the loss curves."""
        train, val = select_cells(data, split.train), select_cells(data, split.val)
        gene_ids = list(data.var[keys.GENE_ID]) if keys.GENE_ID in data.var else None
        context = BlockingContext(
            genes=list(data.var_names),
            train=train,
            organism=source.organism,
            gene_ids=gene_ids,
            cache=self.cache,
            seed=seed,
        )
        blocks = self.scheme(context)
        if self.head is not None:
            self.head.fit(train, source, seed)
        sets = gene_set_columns(self.head, source, data.obs)
        conditions = Conditions.fit(train.obs, source.conditions if self.told is None else self.told, sets)
        self._assemble(blocks, conditions, seed=seed)
        self.info = {
            "source": source.name,
            "blocking": {"scheme": blocks.scheme} | blocks.info,
            "library_range": library_range(train),
            "perturbation_key": source.perturbation_key,
            "control": source.control,
            "cell_type_key": source.cell_type_key,
            "batch_key": source.batch_key,
            "networks": self.networks,
        }
        combination = train.obs.groupby([*conditions.names], observed=True, sort=True).ngroup().to_numpy()
        self.model.start_from(*gene_moments(train, combination))
        rows = CellRows(_cells(train), conditions.encode(train.obs), torch.from_numpy(combination))
        known = _known(val.obs, conditions)
        val = select_cells(val, np.flatnonzero(known))
        val_rows = CellRows(_cells(val), conditions.encode(val.obs), torch.zeros(len(val.obs), dtype=torch.long))
        log.info("blocks: %s of %s genes (%s) %s", blocks.n_blocks, blocks.block_size, blocks.scheme, _coverage(blocks))
        self.cost = {"parameters": sum(p.numel() for p in self.model.parameters())}
        self.cost |= fit_stages(
            self.model, self.plan, self.objective, rows, val_rows, self.workshop, seed, self.networks
        )

    def _assemble(self, blocks: GeneBlocks, conditions: Conditions, seed: int) -> None:
        told = conditions.names if self.decoder_conditions is None else self.decoder_conditions
        self.decoder_conditions = [name for name in told if name in conditions.names]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SAVEModel(
                build(self.components["backbone"], "backbone"),
                blocks,
                build(self.components["likelihood"], "likelihood"),
                conditions,
                self.decoder_conditions,
                text_vectors(self.head, conditions),
            )

    # --- use ---
    @property
    def conditions(self) -> Conditions:
        return self._fitted().conditions

    @property
    def genes(self) -> list[str]:
        return list(self._fitted().blocks.genes)

    def generate(
        self,
        cells: int | pd.DataFrame,
        condition: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        guidance: Weight | None = None,
    ) -> AnnData:
        """Cells from noise: `cells` of one `condition`, or one for each row of a DataFrame of condition columns.

        Columns that are not named are masked: the model then draws over their levels. Returns `layers["counts"]`
        (integers from a count head), `X` log1p, conditions and library size in `obs`. UserError on unknown columns
        or levels.
        """
        model = self._fitted()
        obs = self._obs(cells, condition)
        values = on(self.conditions.encode(obs), self.device)
        rng = torch.Generator(self.device).manual_seed(seed)
        started = time.perf_counter()
        x_0 = torch.randn(len(obs), model.n_latent + 1, generator=rng, device=self.device)
        x_1, evaluations = self._flow(x_0, values, self.guidance if guidance is None else guidance)
        z, library = model.from_flow(x_1)
        library = library.clamp(*self.info["library_range"]).round()
        generated = decoded(model, z, library, values, rng, obs, self.info)
        seconds = time.perf_counter() - started
        self.cost |= {
            "seconds_sample": seconds,
            "cells_per_second_sample": len(obs) / max(seconds, 1e-9),
            "sampling_evaluations": evaluations,
        }
        return generated

    def translate(
        self, cells: AnnData, target: pd.DataFrame, *, seed: int = 0, guidance: Weight | None = None, draw: bool = True
    ) -> AnnData:
        """The cells under other conditions: the flow backwards under their own, forwards under those of `target` (N rows).

        Columns that either lacks are masked. Drawn from the likelihood, or its mean with `draw=False`. The objective has to
        be a velocity field or an invertible sampler. UserError on unknown levels.
        """
        model, source = self._fitted(), on(self.conditions.encode(cells.obs), self.device)
        wanted, weight = (
            on(self.conditions.encode(target), self.device),
            self.guidance if guidance is None else guidance,
        )
        z = torch.from_numpy(self.encode(cells)).to(self.device).unflatten(1, (model.blocks.n_blocks, -1))
        library = torch.as_tensor(cells.obs[keys.LIBRARY].to_numpy(np.float32), device=self.device)
        with inference(model):
            noise, _ = self.objective.invert(
                guided(model.velocity, self.conditions, source, 1.0), model.to_flow(z, library), self.solver
            )
            z, library = model.from_flow(self._flow(noise, wanted, weight)[0])
        rng = torch.Generator(self.device).manual_seed(seed) if draw else None
        library = library.clamp(*self.info["library_range"]).round()
        return decoded(model, z, library, wanted, rng, target, self.info)

    def encode(self, cells: AnnData) -> np.ndarray:
        """Latent means of cells, (N, L * d). Genes are matched by name; a gene that the cells lack counts as zero."""
        model, parts = self._fitted(), []
        with inference(model):
            for counts, library in batches(model, cells, self.device):
                parts.append(model.encode(model.scaled(counts, library)).mu.flatten(1).cpu())
        return torch.cat(parts).numpy()

    def decode(self, latent: np.ndarray, obs: pd.DataFrame, library: np.ndarray) -> AnnData:
        """Mean expression of latents (N, L * d) under the decoder's columns in `obs` (absent ones masked)."""
        model = self._fitted()
        z = torch.from_numpy(np.asarray(latent, np.float32)).unflatten(1, (model.blocks.n_blocks, -1))
        values = on(self.conditions.encode(obs), self.device)
        library = torch.as_tensor(library, dtype=torch.float32).to(self.device)
        return decoded(model, z.to(self.device), library, values, None, obs, self.info)

    def respond(self, control: AnnData, target: str, seed: int = 0, route: str = "response") -> AnnData:
        """The cells of `control` (prepared, one level of the perturbation column) as they would be under `target`.

        Routes (method.md section 6): `response`, `transfer`, `generate`, `translate`; see `scsave.response.routes`.
        """
        return respond(self, control, target, seed, route)

    def integrate(self, data: AnnData, seed: int = 0, reference: str | None = None, route: Route = "decode") -> AnnData:
        """The cells (prepared; new ones too) with `obsm["X_save"]` and corrected expression: `scsave.integrate`."""
        return integrate(self, data, reference, route)

    def to(self, device: str | torch.device) -> SAVE:
        self.device = torch.device(device)
        self._fitted().to(self.device)
        return self

    # --- files ---
    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/model.ckpt`."""
        model = self._fitted()
        content = {
            "version": __version__,
            "components": self.components,
            "guidance": self.guidance,
            "blocks": model.blocks.to_dict(),
            "conditions": model.conditions.to_list(),
            "decoder_conditions": self.decoder_conditions,
            "state": model.state_dict(),
            "head": self.head.state() if self.head is not None else None,
            "info": self.info,
        }
        path = Path(folder) / "model.ckpt"
        write_checkpoint(path, content)
        return path

    @classmethod
    def load(cls, where: str | Path, device: str = "cpu") -> SAVE:
        """From a run directory or a checkpoint file. UserError if it is missing or damaged."""
        content = read_checkpoint(where)
        self = cls(
            **content["components"], guidance=content["guidance"], decoder_conditions=content["decoder_conditions"]
        )
        if self.head is not None:
            self.head.restore(content["head"])
        self._assemble(GeneBlocks.from_dict(content["blocks"]), Conditions.from_list(content["conditions"]), seed=0)
        self.model.load_state_dict(content["state"])
        self.model.requires_grad_(False).eval()
        self.info = content["info"]
        return self.to(device)

    # --- inside ---
    def _fitted(self) -> SAVEModel:
        if self.model is None:
            raise UserError("this SAVE has no weights yet: call fit(...) or SAVE.load(run directory)")
        return self.model

    def _obs(self, cells: int | pd.DataFrame, condition: dict[str, Any] | None) -> pd.DataFrame:
        if isinstance(cells, pd.DataFrame):
            return cells[[name for name in self.conditions.names if name in cells]].copy()
        condition = condition or {}
        if unknown := set(condition) - set(self.conditions.names):
            known = ", ".join(self.conditions.names) or "none"
            raise UserError(f"condition names {', '.join(sorted(unknown))}; the model's conditions are: {known}")
        if cells < 1:
            raise UserError(f"n={cells}: at least one cell must be asked for")
        index = [f"generated-{i}" for i in range(cells)]
        columns = {name: [condition.get(name, keys.MASK)] * cells for name in self.conditions.names}
        return pd.DataFrame(columns, index=index)

    def _flow(self, x_0: Tensor, values: Values, guidance: Weight) -> tuple[Tensor, int]:
        model = self._fitted()
        with inference(model):
            field = guided(model.velocity, self.conditions, values, guidance)
            return self.objective.sample(field, x_0, self.solver)


def _cells(data: AnnData) -> CellDataset:
    return CellDataset(data.layers[keys.COUNTS], data.obs[keys.LIBRARY].to_numpy())


def _coverage(blocks: GeneBlocks) -> str:
    share = blocks.info.get("coverage")
    return "" if share is None else f"coverage by the vectors {share:.1%}"


def _known(obs: pd.DataFrame, conditions: Conditions) -> np.ndarray:
    """Validation cells whose levels the vocabulary knows."""
    known = np.ones(len(obs), dtype=bool)
    for column in conditions.columns:
        if column.kind == "categorical":
            known &= obs[column.name].astype(str).isin(column.levels).to_numpy()
    return known
