"""SAVE as a method: fit, generate, encode, decode, save, load. Three lines are enough:

from scsave import SAVE
model = SAVE.load("outputs/generation/pbmc68k/scsave/<hash>")
cells = model.generate(500, {"bulk_labels": "CD19+ B", "phase": "G1"})
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scsave import __version__
from scsave.baselines.response_head import ResponseHead
from scsave.blocking.blocks import GeneBlocks
from scsave.components import Node, build
from scsave.data.conditions import Conditions
from scsave.data.ordinary import as_prepared, with_genes
from scsave.errors import UserError
from scsave.flow.guidance import Weight
from scsave.method import sample as sampling
from scsave.method import stored_control
from scsave.method.decoding import batches, decoded, inference, on
from scsave.method.fit import learn
from scsave.method.integrate import Route, integrate
from scsave.method.perturbed_genes import text_vectors
from scsave.method.predict import predict
from scsave.method.routes import respond
from scsave.method.units import Request, Unit, units_of
from scsave.models.checkpoint import read_checkpoint, write_checkpoint
from scsave.models.model import SAVEModel
from scsave.runs.processes import Crew
from scsave.stats.pca import Projection
from scsave.training.fitting import FitOptions
from scsave.training.stages import Networks

if TYPE_CHECKING:
    from scsave.data.splits.strategies import Split
    from scsave.keys import Columns


class SAVE:
    """A multi-condition generative model of single cells. Components are config nodes (dicts with a `_target_`).

    Cells are given as AnnData, prepared by a `DataSource` or as their owner has them (`scsave.data.ordinary`).
    """

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
        n_axes: int = 0,
        options: FitOptions | None = None,
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
        self.guidance, self.networks, self.n_axes = guidance, networks, n_axes
        self.told, self.decoder_conditions = conditions, decoder_conditions
        self.options, self.cache = options or FitOptions(), cache or Path("data/cache")
        self.cost: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.device = torch.device("cpu")
        self.model: SAVEModel | None = None
        self.crew: Crew | None = None  # other processes that generate a share
        self.axes: Projection | None = None  # of corrected expression: `integrate` projects cells on them
        self.control: AnnData | None = None  # some control cells of training, where perturbations are sets of genes

    # --- training ---
    def fit(self, data: AnnData, split: Split, columns: Columns, seed: int = 0) -> None:
        """Learn blocks, vocabulary, scale and weights from `data[split.train]`; `split.val` is for the loss curves."""
        learn(self, data, split, columns, seed)

    def assemble(self, blocks: GeneBlocks, conditions: Conditions, seed: int) -> None:
        """Networks with fresh weights, `conditions` as their vocabulary."""
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
        return self.fitted().conditions

    @property
    def genes(self) -> list[str]:
        return list(self.fitted().blocks.genes)

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
        return sampling.generate(self, cells, condition, seed, guidance)

    def sample_units(self, request: Request, rank: int = 0, size: int = 1) -> list[Unit]:
        """This process's share of the cells that `generate` was asked for."""
        return units_of(self, request, rank, size)

    def translate(
        self, cells: AnnData, target: pd.DataFrame, *, seed: int = 0, guidance: Weight | None = None, draw: bool = True
    ) -> AnnData:
        """The cells under other conditions: the flow backwards under their own, forwards under those of `target` (N rows).

        Columns that either lacks are masked. Drawn from the likelihood, or its mean with `draw=False`. The objective has to
        be a velocity field or an invertible sampler. UserError on unknown levels.
        """
        return sampling.translate(self, as_prepared(cells), target, seed, guidance, draw)

    def encode(self, cells: AnnData) -> np.ndarray:
        """Latent means of cells, (N, L * d). Genes are matched by name; a gene that the cells lack counts as zero."""
        model, parts, cells = self.fitted(), [], as_prepared(cells)
        with inference(model):
            for counts, library in batches(model, cells, self.device):
                parts.append(model.encode(model.scaled(counts, library)).mu.flatten(1).cpu())
        return torch.cat(parts).numpy()

    def decode(self, latent: np.ndarray, obs: pd.DataFrame, library: np.ndarray) -> AnnData:
        """Mean expression of latents (N, L * d) under the decoder's columns in `obs` (absent ones masked)."""
        model = self.fitted()
        z = torch.from_numpy(np.asarray(latent, np.float32)).unflatten(1, (model.blocks.n_blocks, -1))
        values = on(self.conditions.encode(obs), self.device)
        library = torch.as_tensor(library, dtype=torch.float32).to(self.device)
        return decoded(model, z.to(self.device), library, values, None, obs, self.info)

    def respond(self, control: AnnData, target: str, seed: int = 0, route: str = "response") -> AnnData:
        """The cells of `control` (one level of the perturbation column) as they would be under `target`.

        Routes (method.md section 6): `response`, `transfer`, `generate`, `translate`; see `scsave.method.routes`.
        """
        return respond(self, with_genes(as_prepared(control), self.genes), target, seed, route)

    def predict(
        self, perturbations: str | list[str], control: AnnData | None = None, *, seed: int = 0, route: str = "response"
    ) -> AnnData:
        """Cells under sets of genes, never perturbed in training or never together: `scsave.method.predict`.

        `control` are control cells, by default those in the checkpoint. `uns["per_perturbation"]` says how far
        each perturbation is from training.
        """
        return predict(self, perturbations, control, seed, route)

    def integrate(self, data: AnnData, seed: int = 0, reference: str | None = None, route: Route = "decode") -> AnnData:
        """The cells (new ones too), embedded, and their corrected expression: `scsave.method.integrate`."""
        return integrate(self, as_prepared(data), reference, route)

    def to(self, device: str | torch.device) -> SAVE:
        self.device = torch.device(device)
        self.fitted().to(self.device)
        return self

    # --- files ---
    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/model.ckpt`."""
        model = self.fitted()
        content = {
            "version": __version__,
            "components": self.components,
            "guidance": self.guidance,
            "blocks": model.blocks.to_dict(),
            "conditions": model.conditions.to_list(),
            "decoder_conditions": self.decoder_conditions,
            "state": model.state_dict(),
            "axes": self.axes and {name: torch.from_numpy(values) for name, values in vars(self.axes).items()},
            "head": self.head.state() if self.head is not None else None,
            "control": stored_control.packed(self.control),
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
        self.assemble(GeneBlocks.from_dict(content["blocks"]), Conditions.from_list(content["conditions"]), seed=0)
        self.model.load_state_dict(content["state"])
        self.model.requires_grad_(False).eval()
        self.info = content["info"]
        if content.get("axes"):
            self.axes = Projection(**{name: values.numpy() for name, values in content["axes"].items()})
        self.control = stored_control.unpacked(content.get("control"), self.genes)
        return self.to(device)

    # --- inside ---
    def fitted(self) -> SAVEModel:
        if self.model is None:
            raise UserError("this SAVE has no weights yet: call fit(...) or SAVE.load(run directory)")
        return self.model
