import gzip
import json

import pandas as pd
import pytest

from scsave.errors import UserError
from scsave.genes.text import LocalText, NCBIText, PackagedText, clean, text_hash


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("This gene binds DNA. [provided by RefSeq, Jul 2008]", "This gene binds DNA."),
        ("Binds.[supplied by OMIM, Mar 2008].", "Binds."),
        ("It is one (summary by Smith et al., 2001 (review)). Two.", "It is one. Two."),
        ("A kinase (PMID: 123, 456) acts [PubMed 7890] here (MIM 603371).", "A kinase acts here."),
        ("Seen PMID:12345, in cells.", "Seen, in cells."),
        ("See https://www.ncbi.nlm.nih.gov/gene/1?x=(2) for more.", "See for more."),
        ("<i>TP53</i> &amp; &lt;5 kb", "TP53 & <5 kb"),
        ("Prose.\n\n  Sequence Note: made from 2 records.\n##Evidence-Data-START##\nx", "Prose."),
        ("A  b\t c\u00a0d", "A b c d"),
        ("Interleukin (IL) [a cytokine] stays.", "Interleukin (IL) [a cytokine] stays."),
        (
            "Publication year 2008 stays, and so does provided by the cell.",
            "Publication year 2008 stays, and so does provided by the cell.",
        ),
    ],
)
def test_cleaning_of_awkward_summaries(raw, expected):
    assert clean(pd.Series({"G": raw})).tolist() == [expected]


def test_cleaning_is_idempotent_and_drops_what_is_empty():
    text = pd.Series({"A": "[provided by RefSeq, Jul 2008]", "B": None, "C": "", "D": " . ", "E": "Binds (PMID: 1) x."})
    once = clean(text)
    assert once.to_dict() == {"E": "Binds x."}
    assert clean(once).equals(once)


def test_hash_follows_text_not_order():
    text = pd.Series({"A": "x", "B": "y"})
    assert text_hash(text) == text_hash(text[::-1])
    assert text_hash(text) != text_hash(pd.Series({"A": "y", "B": "x"}))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["json", "tsv"])
def test_local_files(tmp_path, kind, zipped):
    values = {"CD3D": "Part of TCR. [provided by RefSeq, Jul 2008]", "LYZ": "Lyses\tbacteria.", "X": ""}
    content = json.dumps(values) if kind == "json" else "".join(f"{gene}\t{text}\n" for gene, text in values.items())
    path = tmp_path / f"text.{kind}"
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    text = LocalText(path=str(path)).read(tmp_path)
    assert text.to_dict() == {"CD3D": "Part of TCR.", "LYZ": "Lyses bacteria."}


@pytest.mark.parametrize(
    ("content", "words"), [("{broken", "broken JSON"), ('{"a": 1}', "symbol to text"), ("one\n", "TAB")]
)
def test_local_files_of_another_kind(tmp_path, content, words):
    path = tmp_path / "text"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        LocalText(path=str(path)).read(tmp_path)


def ncbi_files(tmp_path):
    summary, info = tmp_path / "gene_summary.gz", tmp_path / "gene_info.gz"
    summary.write_bytes(
        gzip.compress(
            b"#tax_id\tGeneID\tSource\tSummary\n"
            b'9606\t1\tRefSeq\tHuman "one. [provided by RefSeq, Jul 2008]\n'
            b"10090\t2\tAlliance\tMouse two.\n9606\t3\tRefSeq\tHuman three.\n9606\t4\tRefSeq\tNo symbol.\n"
        )
    )
    info.write_bytes(
        gzip.compress(b"#tax_id\tGeneID\tSymbol\tSynonyms\n9606\t1\tA1BG\t-\n10090\t2\tA2m\t-\n9606\t3\tNA\t-\n")
    )
    return str(summary), str(info)


@pytest.mark.parametrize(
    ("organism", "expected"),
    [("human", {"A1BG": 'Human "one.', "NA": "Human three."}), ("mouse", {"A2m": "Mouse two."})],
)
def test_ncbi_files(tmp_path, organism, expected):
    summary, info = ncbi_files(tmp_path)
    assert NCBIText(organism=organism, summary=summary, info=info).read(tmp_path).to_dict() == expected


def test_ncbi_files_swapped_are_noticed(tmp_path):
    summary, info = ncbi_files(tmp_path)
    with pytest.raises(UserError, match="no column Summary"):
        NCBIText(summary=info, info=summary).read(tmp_path)


def test_packaged_text_names_gene_and_terms(tmp_path):
    text = PackagedText().read(tmp_path)
    assert text["CD3D"].startswith("CD3 delta subunit of T-cell receptor complex.")
    assert "alpha-beta T cell receptor complex" in text["CD3D"]
    assert len(text) > 20_000


def test_no_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    from scsave.data import downloaded as download

    def nothing(url, beside):
        raise download.Broken("no connection")

    monkeypatch.setattr(download, "transfer", nothing)
    with pytest.raises(UserError, match=r"gene_summary\.gz is missing.*vectors\.text\.summary=") as error:
        NCBIText().read(tmp_path)
    assert "data=" not in str(error.value)
    assert "https://ftp.ncbi.nlm.nih.gov/gene/DATA/gene_summary.gz" in str(error.value)
