"""Which gene blocks look at which, and how a condition moves that (method.md section 7, 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from scsave.blocking.describe import Sets, block_names
from scsave.components import build
from scsave.errors import UserError, listed
from scsave.files import write_text
from scsave.genes.sets import GeneSets
from scsave.keys import Columns
from scsave.method.decoding import batches, inference, on
from scsave.method.fitted import Fitted
from scsave.method.method import SaveMethod
from scsave.method.technical import every_column
from scsave.models.networks import Attention
from scsave.protocol import Context, Method
from scsave.results.figures import draw_attention

Network = Literal["encoder", "decoder", "velocity"]
WITHOUT = "analysis=attention: this backbone has no attention between blocks; use backbone=save_small"
MOST_BLOCKS = 512  # an L x L matrix a level, layer and network
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the flow, averaged over


@dataclass(kw_only=True)
class BlockAttention:
    """Attention between blocks, averaged over heads and over the cells of each level of `column`.

    The encoder is told no condition: what differs there are the cells. Decoder and velocity network are told those that
    they were trained with. `reference` is the level that changes are drawn against; the change between two halves of its
    cells is the noise floor.
    """

    column: str | None = None  # null: the perturbation, else the first condition
    reference: str | None = None  # null: the control, else the most frequent level
    networks: list[Network]
    max_cells: Annotated[int, Field(gt=1)] = 1000  # of each level
    max_levels: PositiveInt = 6  # drawn: those that change most

    def check(self, method: Method, parts: frozenset[str], columns: Columns, data: AnnData) -> None:
        """Before anything is trained: UserError for a method, backbone, column or level that can't be looked at."""
        if not isinstance(method, SaveMethod) or not parts:
            raise UserError("analysis=attention needs a trained SAVE: no baseline, and a route that trains a network")
        backbone = build(method.backbone, "backbone")
        if not isinstance(backbone.mixing(2, backbone.width), Attention):
            raise UserError(WITHOUT)
        self.chosen(every_column(columns, []), columns, data)

    def run(self, context: Context) -> list[Path]:
        """Writes `attention.csv`, `blocks.csv` (their most enriched GO terms) and `attention.png` below the run's folder."""
        column, reference = self.chosen(context.method.fitted.conditions.names, context.columns, context.data)
        labels, weights = self.weights(context, column, reference)
        path, table = context.folder / "attention.csv", long_table(labels, weights)
        write_text(path, table.to_csv(index=False))
        blocks = context.method.fitted.network.blocks
        member, titles, match = GeneSets().membership(list(blocks.genes), context.columns.organism)
        names = pd.Series(block_names(blocks, Sets(member, titles, match.found)), name="name").rename_axis("block")
        write_text(path.with_name("blocks.csv"), names.to_csv())
        figure = draw_attention(context.folder / "figures" / "attention.png", table, self.max_levels, list(names))
        print(f"attention by {column}, reference {reference}: {path}, {figure}")
        return [path, figure]

    def chosen(self, told: list[str], columns: Columns, data: AnnData) -> tuple[str, str]:
        """Column and reference level. UserError, listing what is there, where either is absent."""
        named = [name for name in told if name not in columns.numeric and name in data.obs]
        if columns.kind == "genes":
            named = [name for name in named if name != columns.perturbation]
        column = self.column or (columns.perturbation if columns.perturbation in named else next(iter(named), None))
        if column not in named:
            raise UserError(f"analysis.column={column}: the model's categorical conditions are {listed(named)}")
        values = data.obs[column].astype(str)
        control = columns.control if column == columns.perturbation else None
        reference = self.reference or control or str(values.value_counts().index[0])
        if reference not in set(values):
            raise UserError(f"analysis.reference={reference}: no such level of {column}: {listed(sorted(set(values)))}")
        return column, reference

    def weights(self, context: Context, column: str, reference: str) -> tuple[list[str], dict[str, np.ndarray]]:
        """Levels (the reference first, its two halves behind it) and `network/layer` -> (levels, L, L)."""
        values = context.data.obs[column].astype(str).to_numpy()
        levels = [reference, *sorted(set(values) - {reference})]
        model, rng = context.method.fitted, np.random.default_rng(context.seed)
        known = model.conditions.knows(context.data.obs)
        networks = [name for name in self.networks if model.trained("noise") or name != "velocity"]
        found: dict[str, list[np.ndarray]] = {}
        names: list[str] = []
        for level in levels:
            rows = np.sort(rng.permutation(np.flatnonzero(known & (values == level)))[: self.max_cells])
            if not len(rows):
                continue  # a level that the model was never told
            parts = {level: rows}
            if level == reference:
                shuffled = rng.permutation(rows)
                parts |= {"half 1": shuffled[::2], "half 2": shuffled[1::2]}
            for name, chosen in parts.items():
                names.append(name)
                means = attention_of(model, context.data[chosen], networks, context.seed)
                for key, mean in means.items():
                    found.setdefault(key, []).append(mean)
        return names, {key: np.stack(parts) for key, parts in found.items()}


def attention_of(model: Fitted, cells: AnnData, networks: list[Network], seed: int) -> dict[str, np.ndarray]:
    """Mean attention of some cells, `network/layer` -> (L, L); the velocity network has the library size as last token."""
    import torch

    inner = model.network
    if inner.blocks.n_blocks > MOST_BLOCKS:
        raise UserError(f"analysis=attention: {inner.blocks.n_blocks} blocks, at most {MOST_BLOCKS} can be written")
    rng = torch.Generator(model.device).manual_seed(seed)
    values, done = on(model.conditions.encode(cells.obs), model.device), 0
    with inference(inner), listening({name: getattr(inner, name) for name in networks}) as heard:
        for counts, library in batches(inner, cells, model.device):
            told = {name: v[done : done + len(counts)] for name, v in values.items()}
            done += len(counts)
            z = inner.encode(inner.scaled(counts, library)).mu  # (N, L, d)
            if "decoder" in networks:
                inner.decode(z, told)
            if "velocity" in networks:
                x_1 = inner.to_flow(z, library)
                for t in TIMES:
                    x_0 = torch.randn(x_1.shape, generator=rng, device=x_1.device)
                    inner.velocity((1 - t) * x_0 + t * x_1, torch.full((len(x_1),), t, device=x_1.device), told)
    return {name: (total / count).cpu().numpy() for name, (total, count) in heard.items()}


@contextmanager
def listening(networks: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Sums of attention probabilities over the cells that pass, `network/layer` -> ((L, L), cells), while it is open."""
    heard: dict[str, tuple[Tensor, int]] = {}

    def hear(name: str, layer: Attention, h: Tensor) -> None:
        weights = layer.weights(h).mean(dim=1).sum(dim=0)  # (N, heads, L, L) -> (L, L)
        total, count = heard.get(name, (0.0, 0))
        heard[name] = (total + weights, count + len(h))

    hooks = []
    for network, module in networks.items():
        layers = [layer for layer in module.modules() if isinstance(layer, Attention)]
        if not layers:
            raise UserError(WITHOUT)
        for number, layer in enumerate(layers):
            name = f"{network}/{number}"
            hooks.append(layer.register_forward_pre_hook(lambda layer, inputs, name=name: hear(name, layer, inputs[0])))
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def long_table(labels: list[str], weights: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row for each network, layer, level, looking block and block looked at; `change` is from the reference."""
    parts = {}
    for key, stack in weights.items():  # (levels, L, L)
        network, layer = key.split("/")
        blocks = range(stack.shape[1])
        index = pd.MultiIndex.from_product([labels, blocks, blocks], names=["level", "block", "looks_at"])
        values = {"weight": stack.ravel(), "change": (stack - stack[:1]).ravel()}
        parts[network, int(layer)] = pd.DataFrame(values, index)
    return pd.concat(parts, names=["network", "layer"]).reset_index()
