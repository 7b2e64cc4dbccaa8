"""A fitted SAVE as a small object: networks, vocabulary, blocks, device; it is saved, loaded, and encodes and decodes cells.

What is done with one (generate, translate, respond, predict, integrate) are functions of the modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scsave import __version__, keys
from scsave.blocking.blocks import GeneBlocks
from scsave.components import Node, build, check_nested
from scsave.data import stored_control
from scsave.data.conditions import Conditions, GeneSet
from scsave.data.targets import Targets
from scsave.errors import UserError
from scsave.flow.guidance import Weight
from scsave.genes.space import TextSpace
from scsave.method.decoding import batches, decoded, inference, on
from scsave.models.checkpoint import FILE, check_state, find_checkpoint, read_checkpoint, write_checkpoint
from scsave.models.conditions import Vectors
from scsave.models.model import SAVEModel
from scsave.models.networks import Velocity

METHOD = "save"  # in a checkpoint: which method's it is
CONTENT = ("nodes", "blocks", "conditions", "decoder_conditions", "state", "space", "control", "closed", "info")
ABOUT = ("source", "blocking", "library_range", "perturbation", "control", "cell_type", "batch", "technical", "leave")


def vectors_of(space: TextSpace | None, conditions: Conditions) -> Vectors:
    """Vectors (genes, q) of every column of sets of genes."""
    return {
        column.name: torch.from_numpy(space.place(list(column.genes))).float()
        for column in conditions.columns
        if isinstance(column, GeneSet)
    }


def closed_form(nodes: dict[str, Node], kind: str) -> Any:
    """The closed form of route `combined` for a kind of perturbation (`level`, `genes`), not fitted."""
    return build(nodes["closed"][kind], f"closed.{kind}")


@dataclass(frozen=True)
class Sampler:
    """How the flow is integrated: its objective, the solver, and the guidance weight (1 is the conditional field).

    `unseen` says how combinations that training lacks are made: see `scsave.method.unseen`.
    """

    objective: Any
    solver: Any
    guidance: Weight = 1.0
    unseen: str = "told"

    @classmethod
    def of(cls, objective: Node, sampling: Node) -> Sampler:
        """From the config nodes `objective` and `sampling`; one from before `unseen` tells the flow all that it is asked."""
        given = {name: sampling[name] for name in ("guidance", "unseen") if name in sampling}
        return cls(build(objective, "objective"), build(sampling["solver"], "sampling.solver"), **given)


@dataclass(frozen=True)
class Seen:
    """Combinations of condition levels in training: levels as text, cells (M,), mean in the flow's space (M, D)."""

    table: pd.DataFrame  # (M, C)
    cells: np.ndarray
    mean: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        levels = {str(name): column.tolist() for name, column in self.table.items()}
        return {"levels": levels, "cells": self.cells.tolist(), "mean": torch.from_numpy(self.mean)}

    def has(self, combination: tuple[str, ...]) -> bool:
        return bool((self.table.to_numpy() == np.array(combination, dtype=object)).all(axis=1).any())

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Seen:
        return cls(pd.DataFrame(content["levels"]), np.array(content["cells"]), content["mean"].numpy())


@dataclass
class Fitted:
    """Networks with weights and everything else that using them needs.

    `nodes` are the config nodes of backbone, likelihood, objective and sampling that the model was made with.
    """

    network: SAVEModel
    nodes: dict[str, Node]
    sampler: Sampler
    space: TextSpace | None = None  # of gene vectors, where perturbations are sets of genes
    control: AnnData | None = None  # some control cells of training, where perturbations are sets of genes
    info: dict[str, Any] = field(default_factory=dict)  # of data and training, plain values
    cost: dict[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    targets: Targets | None = None  # of training, where levels (not sets of genes) are perturbed
    seen: Seen | None = None  # combinations of training, where some are missing (`scsave.method.unseen`)
    closed: Any = None  # the closed form of route `combined` (`scsave.method.combined`), where cells are perturbed

    @classmethod
    def assemble(
        cls,
        nodes: dict[str, Node],
        blocks: GeneBlocks,
        conditions: Conditions,
        decoder_conditions: list[str],
        space: TextSpace | None,
        seed: int,
        perturbation: str | None = None,
        targets: Targets | None = None,
    ) -> Fitted:
        """Networks with fresh weights drawn by `seed`, `conditions` as their vocabulary, `targets` where levels are perturbed."""
        vectors = vectors_of(space, conditions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = SAVEModel(
                build(nodes["backbone"], "backbone"),
                blocks,
                build(nodes["likelihood"], "likelihood"),
                conditions,
                [name for name in decoder_conditions if name in conditions.names],
                vectors,
                perturbation,
                tuple(targets.further) if targets else (),
                len(targets.labels) if targets else 0,
            )
        return cls(network, nodes, Sampler.of(nodes["objective"], nodes["sampling"]), space, targets=targets)

    @property
    def conditions(self) -> Conditions:
        return self.network.conditions

    @property
    def decoder_conditions(self) -> list[str]:
        return self.network.decoder_conditions.conditions.names

    @property
    def genes(self) -> list[str]:
        return list(self.network.blocks.genes)

    @property
    def about(self) -> dict[str, Any]:
        """Of `info` what goes into `uns` of the cells that the model makes."""
        return {name: self.info[name] for name in ABOUT if self.info.get(name) is not None}

    def fresh_velocity(self, seed: int) -> Velocity:
        """A velocity network of this model's shape with weights drawn by `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone, blocks = self.network.backbone, self.network.blocks.n_blocks
            vectors = vectors_of(self.space, self.conditions)
            further = self.network.velocity.told[1:]
            n_targets = len(self.targets.labels) if self.targets else 0
            return Velocity(backbone, blocks, self.conditions, vectors, self.info["perturbation"], further, n_targets)

    def trained(self, part: str) -> bool:
        """Are the weights of `part` (of `scsave.training.stages.PARTS`) trained ones?"""
        return part in self.info["parts"]

    def to(self, device: str | torch.device) -> Fitted:
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def encode(self, cells: AnnData) -> np.ndarray:
        """Latent means of prepared cells, (N, L * d). Genes are matched by name; one that the cells lack counts as zero."""
        network, parts = self.network, []
        with inference(network):
            for counts, library in batches(network, cells, self.device):
                parts.append(network.encode(network.scaled(counts, library)).mu.flatten(1).cpu())
        return torch.cat(parts).numpy()

    def latent(self, values: np.ndarray) -> torch.Tensor:
        """Latents (N, L * d) as the networks take them: (N, L, d), on the device."""
        z = torch.from_numpy(np.asarray(values, np.float32)).to(self.device)
        return z.unflatten(1, (self.network.blocks.n_blocks, -1))

    def library(self, cells: AnnData) -> torch.Tensor:
        """Library sizes of prepared cells, (N,), on the device."""
        return torch.as_tensor(cells.obs[keys.LIBRARY].to_numpy(np.float32), device=self.device)

    def decode(self, latent: np.ndarray, obs: pd.DataFrame, library: np.ndarray) -> AnnData:
        """Mean expression of latents (N, L * d) under the decoder's columns in `obs` (absent ones masked)."""
        values = on(self.conditions.encode(obs), self.device)
        size = torch.as_tensor(library, dtype=torch.float32).to(self.device)
        return decoded(self.network, self.latent(latent), size, values, None, obs, self.about)

    # --- files ---
    def save(self, folder: str | Path) -> Path:
        """Write `<folder>/model.ckpt`."""
        network = self.network
        content = {
            "method": METHOD,
            "version": __version__,
            "nodes": self.nodes,
            "blocks": network.blocks.to_dict(),
            "conditions": network.conditions.to_list(),
            "decoder_conditions": self.decoder_conditions,
            "state": network.state_dict(),
            "space": self.space and self.space.state(),
            "control": stored_control.packed(self.control),
            "targets": self.targets and self.targets.to_dict(),
            "closed": self.closed and self.closed.state(),
            "seen": self.seen and self.seen.to_dict(),
            "info": self.info,
        }
        path = Path(folder) / FILE
        write_checkpoint(path, content)
        return path

    @classmethod
    def load(cls, where: str | Path, device: str | torch.device = "cpu") -> Fitted:
        """From a run directory or a checkpoint file. UserError where it is missing, damaged or another method's."""
        path, content = find_checkpoint(where), read_checkpoint(where, METHOD)
        if missing := [name for name in CONTENT if name not in content]:
            raise UserError(f"{path}: not a whole checkpoint, it lacks {', '.join(missing)}: train again")
        try:
            return cls._restored(path, content).to(device)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # a part is there, and is something else
            said = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}: not a whole checkpoint ({said}): train again") from error

    @classmethod
    def _restored(cls, path: Path, content: dict[str, Any]) -> Fitted:
        for name, node in content["nodes"].items():  # all of them, before any is built
            check_nested(node, name)
        space = None
        if content["space"] is not None:
            space = TextSpace(vectors=build(content["nodes"]["vectors"], "vectors"), size=1)
            space.load_state(content["space"])
        blocks, conditions = GeneBlocks.from_dict(content["blocks"]), Conditions.from_list(content["conditions"])
        targets = Targets.from_dict(content["targets"]) if content["targets"] else None
        model = cls.assemble(content["nodes"], blocks, conditions, content["decoder_conditions"], space, seed=0,
                             perturbation=content["info"]["perturbation"], targets=targets)  # fmt: skip
        check_state(path, content["state"], model.network.state_dict(), "train again")
        model.network.load_state_dict(content["state"])
        model.network.requires_grad_(False).eval()
        model.info = content["info"]
        model.seen = Seen.from_dict(content["seen"]) if content.get("seen") else None  # not in checkpoints before it
        if content["closed"] is not None:
            model.closed = closed_form(model.nodes, "level" if space is None else "genes")
            model.closed.load_state(content["closed"])
        model.control = stored_control.unpacked(content["control"], model.genes)
        return model
