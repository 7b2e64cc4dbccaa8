"""Texts about genes: NCBI summaries, a local file, or the packaged names and GO terms; and how summaries are cleaned.

Cleaning (`clean`), as the GenePT protocol (Chen & Zou): of the summary only the prose is kept. In this order,
1. HTML tags go, entities become characters;
2. attributions and dates go: `[provided by RefSeq, Jul 2008]`, `[supplied by OMIM, ...]`, `(summary by ...)`;
3. what follows a curator's label goes: `Sequence Note:`, `Publication Note:`, `##Evidence-Data-START##`, ...;
4. hyperlinks and literature references go: URLs, `PMID: 123`, `[PubMed 123]`, `(MIM 123456)`;
5. brackets left empty go, runs of white space become one blank, blanks before punctuation go.
A text that is empty then counts as no text.
"""

import hashlib
import html
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from scsave.data.downloaded import Mirror, fetch
from scsave.errors import UserError
from scsave.genes.names import read_names
from scsave.genes.packaged import read_text
from scsave.genes.sets import GeneSets

TAX_ID = {"human": "9606", "mouse": "10090"}
GENE_INFO = {
    "human": "GENE_INFO/Mammalia/Homo_sapiens.gene_info.gz",
    "mouse": "GENE_INFO/Mammalia/Mus_musculus.gene_info.gz",
}
NCBI = "https://ftp.ncbi.nlm.nih.gov/gene/DATA/"
_LABELS = "Sequence Note|Publication Note|CCDS Note|COMPLETENESS|Transcript Variant|RefSeq Attributes|##"
_RULES: tuple[tuple[str, str], ...] = (
    (r"<[^<>]{1,200}>", " "),
    (r"\[(?:provided|supplied|summary|modified|adapted)\b[^\]]*\]\.?", " "),
    (r"\((?:provided|supplied|summary|modified|adapted) by[^()]*(?:\([^()]*\)[^()]*)*\)", " "),
    (rf"(?:{_LABELS}).*", " "),
    (r"(?:https?|ftp)://\S+|\bwww\.\S+", " "),
    (r"[\[(]\s*(?:see\s+)?(?:PMIDs?|PubMed|O?MIM)\b[^\])]*[\])]", " "),
    (r"\bPMIDs?:?\s*\d+(?:\s*,\s*\d+)*", " "),
    (r"[\[(][\s,;.:]*[\])]", " "),
    (r"\s+", " "),
    (r" ([.,;:)\]])", r"\1"),
)


def clean(text: pd.Series) -> pd.Series:
    """The prose of each summary by the rules above; genes of which nothing is left are left out."""
    text = text.fillna("").astype(str).map(html.unescape)
    for pattern, replacement in _RULES:
        text = text.str.replace(pattern, replacement, regex=True, flags=re.IGNORECASE | re.DOTALL)
    text = text.str.strip()
    return text[text.str.contains(r"\w", regex=True)]


def text_hash(text: pd.Series) -> str:
    """Of the genes and their texts, whatever their order."""
    ordered = text.sort_index()
    return hashlib.sha256("\n".join((ordered.index + "\t" + ordered).tolist()).encode()).hexdigest()


@dataclass(kw_only=True)
class TextSource(ABC):
    """A source of texts about genes."""

    @abstractmethod
    def read(self, cache: Path) -> pd.Series:
        """Symbol -> cleaned text; human genes unless said otherwise."""


@dataclass(kw_only=True)
class PackagedText(TextSource):
    """`full name. GO term; GO term; ...`, the rarest terms first, from what ships with the project; no network."""

    def read(self, cache: Path) -> pd.Series:
        names = read_names().full_names
        terms = GeneSets().read(cache).terms_of().reindex(names.index).fillna("")
        return (names + ". " + terms).str.strip()


@dataclass(kw_only=True)
class LocalText(TextSource):
    """A JSON object symbol -> text, or a TSV of two columns symbol, text; may be gzipped."""

    path: str

    def read(self, cache: Path) -> pd.Series:
        where = f"vectors.text.path={self.path}"
        content = read_text(Path(self.path), where)
        if content.lstrip().startswith("{"):
            try:
                text = pd.Series(json.loads(content), dtype=object)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: broken JSON ({error})") from None
            if not text.map(lambda value: isinstance(value, str)).all():
                raise UserError(f"{where}: expected a JSON object of symbol to text")
        else:
            pairs = [line.partition("\t")[::2] for line in content.splitlines() if line.strip()]
            text = pd.Series([text for _, text in pairs], index=[gene for gene, _ in pairs], dtype=object)
            if not all("\t" in line for line in content.splitlines() if line.strip()):
                raise UserError(f"{where}: expected a JSON object, or lines of symbol<TAB>text")
        return clean(text[~text.index.duplicated()])


@dataclass(kw_only=True)
class NCBIText(TextSource):
    """The `Summary` field of NCBI Gene (paper), downloaded once; `summary` and `info` take local copies instead."""

    organism: Literal["human", "mouse"] = "human"
    summary: str | None = None
    info: str | None = None

    def read(self, cache: Path) -> pd.Series:
        summary = Path(self.summary) if self.summary else _fetch("gene_summary.gz", cache, "summary")
        info = Path(self.info) if self.info else _fetch(GENE_INFO[self.organism], cache, "info")
        return ncbi_summaries(summary, info, self.organism)


def _fetch(name: str, cache: Path, option: str) -> Path:
    mirror = Mirror(file=Path(name).name, url=NCBI + name)
    return fetch([mirror], cache, "gene_text", "vectors/text=ncbi", f"vectors.text.{option}")[0]


def ncbi_summaries(summary: Path, info: Path, organism: str) -> pd.Series:
    """Symbol -> cleaned summary from `gene_summary.gz` (#tax_id GeneID Source Summary) and `*.gene_info.gz`."""
    tax = TAX_ID[organism]
    texts = _ncbi_table(summary, ["tax_id", "GeneID", "Summary"])
    genes = _ncbi_table(info, ["tax_id", "GeneID", "Symbol"])
    texts, genes = texts[texts["tax_id"] == tax], genes[genes["tax_id"] == tax]
    if genes.empty or texts.empty:
        raise UserError(f"{info if genes.empty else summary}: no line of tax_id {tax} ({organism})")
    both = texts.merge(genes[["GeneID", "Symbol"]], on="GeneID").drop_duplicates("Symbol")
    return clean(both.set_index("Symbol")["Summary"].rename_axis(None))


def _ncbi_table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a table of NCBI Gene ({type(error).__name__}: {error})") from None
    table = table.rename(columns=lambda name: str(name).lstrip("#"))
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; there are {', '.join(table.columns[:8])}")
    return table[columns]
