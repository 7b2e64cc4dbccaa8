"""Pictures inside the page: read, made small enough, written as data URIs with a text for those who can't see them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from scsave.results.collect import Result
from scsave.results.report.content import Content, run_link
from scsave.results.report.html import Html, code, html, paragraph, section, tag

WIDEST = 1400  # pixels; pictures of a run are drawn at 150 dpi, wider ones are scaled down
PER_RUN = 4
WIDE = 900  # pixels from which a picture has panels side by side: on a narrow screen it scrolls rather than shrinks
# Stem of a file -> what it shows; behind a cell type's name, `<type>_umap`, the second table.
SHOWN = {
    "umap": "UMAPs of the cells, coloured by where they are from and by condition, batch or cell type",
    "genes": "each gene's mean, variance and share of zeros, generated against real",
    "violins": "library size and marker genes, real cells beside generated ones",
    "loss": "training and validation loss of each stage against the step",
    "types": "scores of every held-out cell type, each method between the no-skill rows and the ceiling",
    "perturbations": "predicted against real change of gene means, best, median and worst perturbation of each group",
    "groups": "scores by group of perturbations with bootstrap 95% intervals, method beside baselines and ceiling",
    "interactions": "double perturbations, departure of the change from the sum of the singles, predicted against real",
}
OF_TYPE = {
    "umap": "UMAP of control, real and predicted cells",
    "means": "gene means and their changes, predicted against real, a panel a method",
    "violins": "expression of responding genes in control, real and predicted cells",
}

# The same for pictures of `make figures` that are over several runs, by how their names begin.
OVER_RUNS = {
    "guidance": "quality against the guidance weight, beside the noise floor",
    "sampling_steps": "quality against the number of sampling steps, beside the noise floor",
    "block_size": "quality and training time against the size of a block",
    "training_time": "quality of each method against the minutes that it trained",
}


def image(path: Path, alt: str) -> Html:
    """`<img>` with the picture inside. PNG becomes lossy WebP, a fifth of the size; SVG stays as it is."""
    if path.suffix == ".svg":
        return svg_image(path.read_text(encoding="utf-8"), alt)
    from PIL import Image

    with Image.open(path) as picture:
        flat = picture.convert("RGBA")
        ground = Image.new("RGBA", flat.size, "white")
        ground.alpha_composite(flat)
        if ground.width > WIDEST:
            ground = ground.resize((WIDEST, round(ground.height * WIDEST / ground.width)), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        ground.convert("RGB").save(file, "WEBP", quality=82, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    wide = "wide" if ground.width > WIDE else None
    return tag("img", src=uri, alt=alt, width=ground.width, height=ground.height, class_=wide)


def svg_image(svg: str, alt: str, **attributes: object) -> Html:
    """An SVG as a document of its own, so that its ids meet no others."""
    uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return tag("img", src=uri, alt=alt, **attributes)


def figure(picture: Html, caption: object, **attributes: object) -> Html:
    return tag("figure", picture, tag("figcaption", caption), **attributes)


def what(stem: str) -> str:
    """What a picture of this name shows, in words."""
    if stem in SHOWN:
        return SHOWN[stem]
    of, _, kind = stem.rpartition("_")
    return f"{of.replace('_', ' ')}: {OF_TYPE[kind]}" if of and kind in OF_TYPE else stem.replace("_", " ")


def chosen_runs(results: list[Result]) -> list[Result]:
    """The runs whose pictures are shown: of each task, data set and split the first of SAVE, else of a baseline."""
    first: dict[tuple[str, str, str], Result] = {}
    for result in sorted(results, key=lambda r: (r.method != "scsave", r.seed, str(r.path))):
        if any((result.folder / "figures").glob("*.png")):
            first.setdefault((result.task, result.data, result.split), result)
    return [first[key] for key in sorted(first)]


def pictures_of(result: Result) -> tuple[list[Path], int]:
    """At most `PER_RUN` pictures of a run, those of the whole before those of one cell type; how many are left out."""
    found = sorted((result.folder / "figures").glob("*.png"), key=lambda path: ("_" in path.stem, path.name))
    return found[:PER_RUN], len(found) - min(len(found), PER_RUN)


def pictures_section(content: Content) -> Html:
    from scsave.files import slug

    over, of_one = _by_folder(content.figures)
    drawn = [folder.name for folder in of_one]
    runs = [
        result
        for result in chosen_runs(content.results)
        if not any(name.endswith(f"_{slug(result.data)}_{result.method}") for name in drawn)
    ]
    parts = [_over_runs(content, path) for path in over]
    for folder, paths in of_one.items():
        parts.append(tag("h3", folder.name.replace("_", " ", 1)))
        parts += [_one(content, path, folder.name.replace("_", " ")) for path in paths]
    parts += [_of_run(content, result) for result in runs]
    if not parts:
        parts.append(paragraph("No run has left pictures (", code("figures=false"), ", or none is done)."))
    intro = paragraph("Those over several runs first; then one run of each task and data set.")
    return section("pictures", "Pictures", intro, *parts)


def _by_folder(figures: list[Path]) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Pictures over several runs, which lie in `figures` itself, and those of single ones by their folder in it."""
    inner: dict[Path, list[Path]] = {}
    for path in figures:
        if path.parent.name != "figures":
            inner.setdefault(path.parent, []).append(path)
    return [path for path in figures if path.parent.name == "figures"], inner


def _over_runs(content: Content, path: Path) -> Html:
    shown = next((text for name, text in OVER_RUNS.items() if path.stem.startswith(name)), "over several runs")
    of = path.stem.replace("_", " ")
    return figure(image(path, f"{of}: {shown}"), html(f"{of}: {shown}. ", code(content.shown(path))))


def _of_run(content: Content, result: Result) -> Html:
    name = f"{result.task} on {result.data}"
    found, more = pictures_of(result)
    rest = code(content.shown(result.folder / "figures"))
    return html(
        tag("h3", name, f" ({result.method}, split {result.split}, seed {result.seed})"),
        [_one(content, path, f"{name}, {result.method}", run_link(result)) for path in found],
        paragraph(f"{more} more in ", rest, ".", class_="note") if more else None,
    )


def _one(content: Content, path: Path, of: str, run: Html | None = None) -> Html:
    shown = what(path.stem)
    where = html(" Run ", run, ", ") if run else " "
    caption = html(shown[:1].upper(), shown[1:], ".", where, code(content.shown(path)))
    return figure(image(path, f"{of}: {shown}"), caption)
