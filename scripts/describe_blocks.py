"""What is in the blocks: a table, the enriched gene sets and a figure, of one scheme, beside others where asked.

python scripts/describe_blocks.py blocking=semantic data=pbmc68k [--against random coexpression] [--out outputs/blocks]
Any other setting of configs/train.yaml can be overridden the same way (vectors=genept, blocking.n_blocks=20, ...).
"""

import argparse
import sys
from pathlib import Path

from omegaconf import OmegaConf

from scsave.components import build
from scsave.compose import compose
from scsave.errors import UserError
from scsave.files import write_json
from scsave.runs.main import entry, register_resolvers

MOST_BLOCKS = 1000  # to describe one by one


def run(arguments: list[str]) -> None:
    """Writes blocks.csv, enriched.csv, blocks.json, summary.json and blocks.png, and prints the table."""
    import pandas as pd

    from scsave.blocking import describe
    from scsave.blocking.schemes import BlockingContext
    from scsave.data.gene_selection import select_genes
    from scsave.genes.sets import GeneSets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for train.py, e.g. blocking=semantic data=pbmc68k")
    parser.add_argument("--against", nargs="*", default=["random"], help="schemes to compare with (default: random)")
    parser.add_argument("--out", type=Path, help="folder (default: <paths.outputs>/blocks/<data>_<scheme>)")
    options = parser.parse_intermixed_args(arguments)
    rest = [override for override in options.overrides if not override.startswith("blocking=")]
    asked = [options.overrides, *([*rest, f"blocking={name}"] for name in options.against)]
    configs = [OmegaConf.to_container(compose(overrides), resolve=True) for overrides in asked]
    first, cache = configs[0], Path(configs[0]["paths"]["cache"])
    source = build(first["data"], "data")
    data = source.load(cache)
    split = build(first["split"], "split")(data, source.roles, first["seed"])
    train = select_genes(data, split.train, source.n_top_genes, source.min_cells)[split.train]
    context = BlockingContext.of(train, source.organism, cache, first["seed"])
    named = context.genes, context.organism, context.gene_ids
    member, titles, match = GeneSets().membership(*named)
    sets = describe.Sets(member, titles, match.found) if titles else None
    # distances in the same vectors, whatever the scheme
    vectors = build(first["vectors"], "vectors").bind(train).lookup(*named)
    made, described, rows = [], [], []
    for config in configs:
        made.append(build(config["blocking"], "blocking")(context))
        if made[-1].n_blocks > MOST_BLOCKS:
            raise UserError(f"blocking={made[-1].scheme} gives {made[-1].n_blocks} blocks: too many to describe")
        described.append(describe.describe(made[-1], train, *vectors, sets))
        rows.append(describe.summary(described[-1][0], made[-1]) | {"ari": describe.agreement(made[0], made[-1])})
    blocks, (table, enriched), summaries = made[0], described[0], pd.DataFrame(rows)
    out = options.out or Path(first["paths"]["outputs"]) / "blocks" / f"{first['data']['name']}_{blocks.scheme}"
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "blocks.csv")
    enriched[enriched["q"] < describe.ALPHA].to_csv(out / "enriched.csv", index=False)
    write_json(out / "blocks.json", blocks.to_dict())
    write_json(out / "summary.json", {"blocks": blocks.info, "schemes": rows})
    describe.draw_blocks(table, blocks, summaries, out / "blocks.png")
    shown = ["size", "with_vector", "cohesion", "mean_expression", "variable", "central_genes", "top_sets"]
    for text in (table[shown].head(30), summaries.set_index("scheme")):
        print(text.to_string(float_format="{:.3f}".format, max_colwidth=60), end="\n\n")
    print(f"written to {out}")


if __name__ == "__main__":
    register_resolvers()
    entry(lambda: run(sys.argv[1:]))
