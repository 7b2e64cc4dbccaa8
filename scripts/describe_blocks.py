"""What is in the blocks: a table and the enriched gene sets of one scheme, beside others where asked.

python scripts/describe_blocks.py blocking=semantic data=pbmc68k [--against random coexpression] [--out outputs/blocks]
Any other setting of configs/train.yaml can be overridden the same way (vectors=genept, blocking.n_blocks=20, ...).
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from scsave.blocking import describe
from scsave.blocking.schemes import BlockingContext
from scsave.components import build
from scsave.compose import compose, plain
from scsave.data.preprocess import select_genes
from scsave.errors import UserError
from scsave.files import write_json
from scsave.genes.sets import GeneSets
from scsave.runs.main import entry, register_resolvers

MOST_BLOCKS = 1000  # that are described one by one


def run(arguments: list[str]) -> None:
    """Writes blocks.csv, enriched.csv, blocks.json and summary.json, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py, e.g. blocking=semantic data=pbmc68k")
    parser.add_argument("--against", nargs="*", default=["random"], help="schemes to compare with (default: random)")
    parser.add_argument("--out", type=Path, default=Path("outputs/blocks"))
    options = parser.parse_intermixed_args(arguments)
    rest = [override for override in options.overrides if not override.startswith("blocking=")]
    asked = [options.overrides, *([*rest, f"blocking={name}"] for name in options.against)]
    first, *others = [plain(compose(overrides)) for overrides in asked]
    source, cache = build(first["data"], "data"), Path(first["paths"]["cache"])
    data = source.load(cache)
    split = build(first["split"], "split")(data, source.roles, first["seed"])
    train = select_genes(data, split.train, source.n_top_genes, source.min_cells)[split.train]
    context = BlockingContext.of(train, source.organism, cache, first["seed"])
    named = context.genes, context.organism, context.gene_ids
    member, titles, match = GeneSets().membership(*named)
    # distances in the same vectors, whatever the scheme
    known = *build(first["vectors"], "vectors").bind(train).lookup(*named), describe.Sets(member, titles, match.found)
    blocks = [build(config["blocking"], "blocking")(context) for config in (first, *others)]
    if (most := max(one.n_blocks for one in blocks)) > MOST_BLOCKS:
        raise UserError(f"{most} blocks are too many to describe one by one; ask for at most {MOST_BLOCKS}")
    tables = [describe.describe(one, *known) for one in blocks]
    pairs = zip(tables, blocks, strict=True)
    rows = [describe.summary(table, one) | {"ari": describe.agreement(blocks[0], one)} for (table, _), one in pairs]
    table, enriched = tables[0]
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "blocks.csv")
    enriched[enriched["q"] < describe.ALPHA].to_csv(options.out / "enriched.csv", index=False)
    write_json(options.out / "blocks.json", blocks[0].to_dict())
    write_json(options.out / "summary.json", {"blocks": blocks[0].info, "schemes": rows})
    for shown in (table.head(30), pd.DataFrame(rows).set_index("scheme")):
        print(shown.to_string(float_format="{:.3f}".format, max_colwidth=60), end="\n\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    register_resolvers()
    entry(lambda: run(sys.argv[1:]))
