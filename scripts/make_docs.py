"""Tables of README.md and docs/*.md: record results of finished runs, render every table from the records, compare.

python scripts/make_docs.py                     # render each table from docs/results (make docs)
python scripts/make_docs.py --record outputs    # first record what docs/results/tables.yaml asks of these runs (make record)
python scripts/make_docs.py --check             # write nothing; exit code 1 where a page and a record differ
python scripts/make_docs.py --api               # docs/api.md from the docstrings of the public interface (make api)
"""

import argparse
import re
import sys
from pathlib import Path

from omegaconf import OmegaConf

from scsave.results.docs import Docs
from scsave.results.frame import read
from scsave.runs.main import entry

ROOT = Path(__file__).resolve().parents[1]


def api_page() -> str:
    """docs/api.md as docs/api.yaml says; the source is read (griffe) and nothing of it imported."""
    import griffe
    from griffe2md import render_object_docs

    spec = OmegaConf.to_container(OmegaConf.load(ROOT / "docs" / "api.yaml"))
    package = griffe.load("scsave", search_paths=[ROOT / "src"], docstring_parser=griffe.Parser.google)
    parts = [spec["head"]]
    for title, names in spec["parts"].items():
        parts.append(f"## {title}\n")
        parts += [render_object_docs(package[name], spec["options"], format_md=True) for name in names]
    return re.sub(r"\[([^][]+)\]\(#[^)]*\)", r"\1", "\n".join(parts))  # types link to places that one page lacks


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = "folders with finished runs; tables without one keep theirs"
    parser.add_argument("--record", nargs="+", metavar="FOLDER", help=kept)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--api", action="store_true", help="write docs/api.md, and nothing else")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    options = parser.parse_args(arguments)
    docs = Docs(options.root.resolve())
    if options.api:
        (docs.root / "docs" / "api.md").write_text(api_page(), encoding="utf-8")
        return
    for name, count in docs.record(read(options.record)).items() if options.record else ():
        print(f"{name}: {count} runs recorded" if count else f"{name}: no fitting run, its record stays as it is")
    if options.check:
        lines = docs.differences()
        print("\n".join(lines) or "every page is as the records say")
        sys.exit(bool(lines))
    for page in docs.write():
        print(page.relative_to(docs.root))


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
