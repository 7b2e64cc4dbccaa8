import importlib.util
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from scsave.errors import UserError
from scsave.genes.names import read_names
from scsave.genes.packaged import NAMES, SETS, VECTORS
from scsave.genes.sets import SetTable
from scsave.genes.vectors import GeneVectors

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_gene_vectors.py"


@pytest.fixture
def script(monkeypatch):
    """The script, with an encoder that gives each phrase its own axis by its first letter."""
    spec = importlib.util.spec_from_file_location("build_gene_vectors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encode = lambda texts, batch_size: np.eye(26, dtype=np.float32)[[ord(t[0].lower()) - 97 for t in texts]]  # noqa: E731
    monkeypatch.setattr(module, "sentence_encoder", lambda: encode)
    return module


@pytest.fixture
def databases(tmp_path):
    """Twelve coding genes of two names, one with an alias, one LOC, one bare pseudogene, in the layout of the packages."""
    org, go = sqlite3.connect(tmp_path / "org.sqlite"), sqlite3.connect(tmp_path / "go.sqlite")
    go.executescript(
        "CREATE TABLE go_term (go_id, term); INSERT INTO go_term VALUES"
        "('GO:1','cleavage'),('GO:2','digestion'),('GO:0008150','biological_process');"
    )
    org.executescript(
        "CREATE TABLE gene_info (_id, gene_name, symbol); CREATE TABLE genetype (_id, gene_type);"
        "CREATE TABLE alias (_id, alias_symbol); CREATE TABLE ensembl (_id, ensembl_id);"
        + "".join(f"CREATE TABLE go_{o}{s} (_id, go_id, evidence);" for o in ("bp", "mf", "cc") for s in ("", "_all"))
    )
    names = [(i, ("actin" if i < 6 else "biotin") + f" {i}", f"G{i:02d}") for i in range(12)]
    names += [(12, "uncharacterized", "LOC123"), (13, "some pseudogene", "PS1"), (14, "old reading", "G00")]
    org.executemany("INSERT INTO gene_info VALUES (?, ?, ?)", names)
    kinds = [(i, "protein-coding") for i in range(13)] + [(13, "pseudo"), (14, "unknown")]
    org.executemany("INSERT INTO genetype VALUES (?, ?)", kinds)
    org.executemany("INSERT INTO alias VALUES (?, ?)", [(0, "OLD0"), (0, "G00"), (1, "A"), (2, "A")])
    org.executemany("INSERT INTO ensembl VALUES (?, ?)", [(3, "ENSG00000000003")])
    direct = [(i, "GO:1" if i % 2 else "GO:2", "IEA") for i in range(8)] + [
        (8, "GO:1", "ND"),
        (14, "GO:0008150", "IEA"),
    ]
    org.executemany("INSERT INTO go_bp VALUES (?, ?, ?)", direct)
    org.executemany("INSERT INTO go_bp_all VALUES (?, ?, ?)", direct + [(i, "GO:2", "IEA") for i in range(12)])
    org.commit()
    go.commit()
    return tmp_path


def build(script, monkeypatch, folder, *more):
    paths = ["--org", str(folder / "org.sqlite"), "--go", str(folder / "go.sqlite"), "--out", str(folder / "out")]
    monkeypatch.setattr("sys.argv", ["build_gene_vectors.py", *paths, *more])
    script.main()
    return folder / "out"


def test_all_three_files_from_small_databases(script, databases, monkeypatch):
    out = build(script, monkeypatch, databases, "--width", "4")
    vectors = GeneVectors.load(out / VECTORS, "built", names=str(out / NAMES))
    assert vectors.genes == tuple(f"G{i:02d}" for i in range(12))  # no LOC, no bare pseudogene, one G00
    with np.load(out / VECTORS, allow_pickle=False) as values:
        assert values["vectors"].dtype == np.float16
    found = vectors.lookup(["OLD0", "ENSG00000000003.2", "A", "G00"])
    assert found[1].tolist() == [True, True, False, True]  # A is an alias of two genes
    assert (found[0][0] == found[0][3]).all()
    alike = lambda a, b: np.linalg.norm(vectors.vectors[a] - vectors.vectors[b])  # noqa: E731
    assert alike(0, 2) < 1e-3 < alike(0, 1)  # same name, same term; same name, another term
    assert alike(8, 9) < 1e-3 < alike(0, 8)  # no term that counts: the name alone
    assert vectors.info["variance_kept"] == pytest.approx(1.0, abs=1e-3)
    sets = SetTable.load(out / SETS, "built")
    assert (sets.sets, sets.titles) == (("GO:2",), ("digestion",))  # GO:1 has fewer than ten genes
    assert read_names(out / NAMES).full_names["G07"] == "biotin 7"


def test_missing_and_wrong_databases_are_named(script, databases, monkeypatch):
    (databases / "go.sqlite").write_text("<html>")
    with pytest.raises(UserError, match=r"go\.sqlite: not the database"):
        build(script, monkeypatch, databases)
    (databases / "go.sqlite").unlink()
    with pytest.raises(UserError, match=r"go\.sqlite: no such file"):
        build(script, monkeypatch, databases)
