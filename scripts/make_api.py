"""docs/api.md from the docstrings of the public interface: python scripts/make_api.py [--out docs/api.md]

It reads the source and imports nothing of it (griffe), so the page takes a second and no service.
"""

import argparse
import re
from pathlib import Path

import griffe
from griffe2md import render_object_docs

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# API

Generated from the docstrings by `make api` and held in step with them by a test; committed, so that it is read where the code
is, with nothing built or hosted. `from scsave import SAVE` is what a user needs; the rest is for [extending](extending.md).
What a task writes: [results](results.md).
"""
# Title of a part of the page, and what it lists.
PARTS = {
    "The model": ["method.save.SAVE", "errors.UserError", "keys.Columns"],
    "What a run is made of": ["protocol.Method", "protocol.Task", "protocol.Context", "protocol.Outcome"],
    "Further points of extension": [
        "data.source.DataSource", "data.splits.split.Split", "blocking.schemes.BlockingScheme",
        "blocking.schemes.BlockingContext", "models.backbone.AttentionBackbone", "models.likelihoods.Likelihood",
        "flow.objective.Objective", "training.stages.Stage", "training.options.FitOptions", "metrics.row.Metric",
    ],
}  # fmt: skip
OPTIONS = {
    "docstring_style": "google", "heading_level": 3, "show_root_full_path": True, "show_root_heading": True,
    "show_bases": False, "members_order": "source", "separate_signature": True, "line_length": 100,
    "docstring_section_style": "list", "filters": ["!^_"], "summary": False, "show_if_no_docstring": False,
    "show_signature_annotations": True, "show_object_full_path": False, "inherited_members": False,
}  # fmt: skip


def page() -> str:
    """The whole page as Markdown."""
    package = griffe.load("scsave", search_paths=[ROOT / "src"], docstring_parser=griffe.Parser.google)
    parts = [HEAD]
    for title, names in PARTS.items():
        parts.append(f"## {title}\n")
        parts += [render_object_docs(package[name], OPTIONS, format_md=True) for name in names]
    return re.sub(r"\[([^][]+)\]\(#[^)]*\)", r"\1", "\n".join(parts))  # types link to places that one page lacks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "api.md")
    parser.parse_args().out.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
