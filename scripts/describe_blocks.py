"""What is in the blocks: a table, the enriched gene sets and a figure, of one scheme, beside others where asked.

python scripts/describe_blocks.py blocking=semantic data=pbmc68k [--against random coexpression] [--out outputs/blocks]
Any other setting of configs/train.yaml can be overridden the same way (vectors=genept, blocking.n_blocks=20, ...).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scsave.components import build
from scsave.errors import UserError
from scsave.runs.main import entry, register_resolvers

if TYPE_CHECKING:
    from anndata import AnnData

    from scsave.blocking.blocks import GeneBlocks
    from scsave.blocking.schemes import BlockingContext

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def composed(overrides: list[str]) -> dict:
    """configs/train.yaml with the overrides, as plain values."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return OmegaConf.to_container(compose("train", overrides=overrides), resolve=True)


def load(config: dict, group: str = "train") -> "tuple[BlockingContext, AnnData]":
    """What the run of this config would make its blocks from; and the cells of a group of its split."""
    from scsave import keys
    from scsave.blocking.schemes import BlockingContext
    from scsave.data.gene_selection import select_genes

    cache = Path(config["paths"]["cache"])
    source = build(config["data"], "data")
    data = source.load(cache)
    split = build(config["split"], "split")(data, source, config["seed"])
    data = select_genes(data, split.train, source.n_top_genes, source.min_cells)
    train = data[split.train]
    gene_ids = list(data.var[keys.GENE_ID]) if keys.GENE_ID in data.var else None
    genes = list(data.var_names)
    context = BlockingContext(
        genes=genes, train=train, organism=source.organism, gene_ids=gene_ids, cache=cache, seed=config["seed"]
    )
    return context, data[split.groups[group]]


def measure(config: dict, context: "BlockingContext", blocks: "GeneBlocks") -> tuple:
    """Table and enrichment of one scheme; distances in the text vectors of `vectors`, whatever the scheme."""
    from scsave.blocking.describe import Sets, describe
    from scsave.genes.sets import GeneSets

    source = build(config["vectors"], "vectors").bind(context.train)
    vectors, found = source.lookup(context.genes, context.organism, context.gene_ids)
    member, titles, match = GeneSets().membership(context.genes, context.organism, context.gene_ids)
    sets = Sets(member, titles, match.found) if titles else None
    return describe(blocks, context.train, vectors, found, sets)


def scheme_blocks(config: dict, context: "BlockingContext") -> "GeneBlocks":
    return build(config["blocking"], "blocking")(context)


def other_blocks(name: str, overrides: list[str], context: "BlockingContext") -> "tuple[dict, GeneBlocks]":
    """Blocks of another scheme with the same settings of data and size."""
    kept = [o for o in overrides if not o.startswith("blocking=")]
    config = composed([*kept, f"blocking={name}"])
    return config, scheme_blocks(config, context)


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py, e.g. blocking=semantic data=pbmc68k")
    parser.add_argument("--against", nargs="*", default=["random"], help="schemes to compare with (default: random)")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder (default: <paths.outputs>/blocks/<data>_<scheme>)"
    )
    options = parser.parse_intermixed_args(arguments)
    config = composed(options.overrides)
    context, _ = load(config)
    blocks = scheme_blocks(config, context)
    if blocks.n_blocks > 1000:
        raise UserError(f"blocking={blocks.scheme} gives {blocks.n_blocks} blocks: too many to describe one by one")
    report(config, context, blocks, options)


def report(config: dict, context: "BlockingContext", blocks: "GeneBlocks", options: argparse.Namespace) -> None:
    """Writes blocks.csv, enriched.csv, blocks.json, summary.json, blocks.png and prints the table."""
    import pandas as pd

    from scsave.blocking.describe import agreement, summary
    from scsave.blocking.picture import draw_blocks

    out = options.out or Path(config["paths"]["outputs"]) / "blocks" / f"{config['data']['name']}_{blocks.scheme}"
    out.mkdir(parents=True, exist_ok=True)
    table, enriched = measure(config, context, blocks)
    rows = [summary(table, blocks) | {"ari": 1.0}]
    for name in options.against:
        other_config, other = other_blocks(name, options.overrides, context)
        rows.append(summary(measure(other_config, context, other)[0], other) | {"ari": agreement(blocks, other)})
    summaries = pd.DataFrame(rows)
    table.to_csv(out / "blocks.csv")
    enriched[enriched["q"] < 0.05].to_csv(out / "enriched.csv", index=False)
    blocks.save(out / "blocks.json")
    (out / "summary.json").write_text(json.dumps({"blocks": blocks.info, "schemes": rows}, indent=1))
    draw_blocks(table, blocks, summaries, out / "blocks.png")
    show(table, summaries, blocks, out)


def show(table, summaries, blocks: "GeneBlocks", out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    rich = Table(title=f"{blocks.scheme}: {blocks.n_genes} genes in {blocks.n_blocks} blocks", show_lines=True)
    shown = ["size", "with_vector", "cohesion", "mean_expression", "variable", "central_genes", "top_sets"]
    for column in ["block", *shown]:
        rich.add_column(column.replace("_", " "))
    for block, row in table.head(30).iterrows():
        rich.add_row(str(block), *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row[shown]))
    console.print(rich)
    console.print(summaries.to_string(index=False, float_format="{:.3f}".format))
    console.print(f"coverage by the vectors of the scheme: {blocks.info.get('coverage', 'no vectors used')}")
    console.print(f"written to {out}", soft_wrap=True)


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
