"""The evaluation finding: the same cells in three protocols, two real samples among them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, PROTOCOLS
from scsave.results.protocol_study import REAL
from scsave.results.report.content import Content
from scsave.results.report.finding_figure import chance, panels, spread
from scsave.results.report.html import Html, bullets, code, html, paragraph, section, table, tag
from scsave.results.report.pictures import figure, svg_image

if TYPE_CHECKING:
    from scsave.results.protocol_study import Study

TITLE = "The evaluation finding: what the projection does to a number"


def finding_section(content: Content) -> Html:
    if content.study is None:
        return section("finding", TITLE, paragraph(content.no_study or "Not computed."))
    study = content.study
    own = next(row for row in study.rows if row != REAL)
    return section(
        "finding",
        TITLE,
        paragraph(
            "Distances between sets of cells are taken in a PCA, and what that PCA was fitted on decides what is measured. "
            "Below are the same cells in the three protocols that every generation run computes: the test cells, a second "
            "sample of ",
            tag("em", "real"),
            f" cells of the same conditions, and cells of {own}. Nothing differs between the columns but the projection.",
        ),
        bullets(
            [
                html(
                    code(NEUTRAL),
                    ": fitted on half of the training cells; the second real sample is from the other half.",
                ),
                html(code(CFGEN), ": fitted on the test cells, as CFGen's evaluation does."),
                html(
                    code(CFGEN_LEGACY),
                    ": the same, and the compared sample is projected without subtracting the mean, as CFGen's evaluation "
                    "did until its fix.",
                ),
            ]
        ),
        paragraph(tag("strong", _verdict(study))),
        _drawn(panels(study), _panels_alt(study, own), _panels_caption(study, own)),
        _numbers(study, own),
        tag("h3", "The bias: a PCA that has seen one side"),
        paragraph(_bias(study)),
        _drawn(
            spread(study),
            f"Standard deviation along each component, of test cells and the two samples. {_late(study)}",
            "Spread along each component. A PCA fitted on the test cells turns their own noise into directions.",
        ),
        tag("h3", "The offset: a mean that was not subtracted"),
        paragraph(_offset(study)),
        _repeated(study),
        tag("h3", "What follows"),
        paragraph(
            "A distance is read against the row ",
            code("real"),
            " of its own protocol, never across protocols. The headline is ",
            code(NEUTRAL),
            ". Where the literature's numbers stand beside ours, it is not known for each which projection made them, so the "
            "difference is shown and no claim rests on it.",
        ),
        paragraph("Made by ", code(content.study_command), ".", class_="note"),
    )


def _verdict(study: Study) -> str:
    real = {protocol: study.seen[protocol][REAL] for protocol in PROTOCOLS}
    scores = "; ".join(f"{p}: W1 {r.w1:.2f}, AUC {r.c2st:.2f}" for p, r in real.items())
    return (
        f"Two real samples of {study.data} against each other, {scores}. A classifier that can't tell them apart has an AUC "
        "of 0.5."
    )


def _panels_alt(study: Study, own: str) -> str:
    offsets = "; ".join(
        f"{p}: second real sample {study.seen[p][REAL].offset:.1f}, {own} {study.seen[p][own].offset:.1f}"
        for p in PROTOCOLS
    )
    return (
        f"First two components of test cells and samples in the three protocols. Distance between the means, {offsets}."
    )


def _panels_caption(study: Study, own: str) -> str:
    return (
        f"{study.data}, {study.test_cells:,} test cells, PCA of {study.components[NEUTRAL]} components fitted on "
        f"{study.train_cells:,} cells ({NEUTRAL}) or on the test cells; W1, AUC and offset in all components, all test cells "
        f"at once. Above: a second real sample. Below: {own}. One scale throughout."
    )


def _numbers(study: Study, own: str) -> Html:
    rows = [
        [
            html(code(protocol), ", ", "second real sample" if row == REAL else row),
            f"{(seen := study.seen[protocol][row]).w1:.2f}",
            f"{seen.c2st:.3f}",
            f"{seen.offset:.2f}",
            f"{seen.w1 / study.seen[protocol][REAL].w1:.2f}",
        ]
        for protocol in PROTOCOLS
        for row in study.rows
    ]
    head = ["Protocol, sample", "W1", "classifier AUC", "distance of means", "W1 / W1 of real"]
    return table(f"The same cells of {study.data}, pooled over conditions", head, rows)


def _late(study: Study) -> str:
    late = {}
    for protocol in (NEUTRAL, CFGEN):
        test, real = study.test[protocol]["spread"][-5:], study.seen[protocol][REAL].spread[-5:]
        late[protocol] = statistics.fmean(r / t for r, t in zip(real, test, strict=True))
    return (
        f"Along the last five components, the second real sample spreads {late[CFGEN]:.2f} times as wide as the test cells in "
        f"{CFGEN}, against {late[NEUTRAL]:.2f} times in {NEUTRAL}."
    )


def _bias(study: Study) -> str:
    return (
        f"With {study.test_cells:,} test cells, {study.components[CFGEN]} components fitted on them describe those very cells, "
        f"their noise included. {_late(study)} W1 and classifiers take that for a difference between samples, and "
        "a method that reproduces the distribution perfectly is scored as if it did not."
    )


def _offset(study: Study) -> str:
    plain, legacy = (study.seen[protocol][REAL] for protocol in (CFGEN, CFGEN_LEGACY))
    return (
        f"Without the mean, every cell of the sample is moved by one constant: the means of two real samples lie "
        f"{legacy.offset:.1f} apart instead of {plain.offset:.1f}, and W1 becomes {legacy.w1:.1f} instead of {plain.w1:.1f}. The "
        "constant is a property of the data set (its mean expression), not of the method, and it hides differences between "
        "methods. CFGen's published value for the Dentate gyrus (W1 21.25) was computed that way; the paper's baseline of 21.55 "
        "there is close to it, so its 9.16 against 21.55 is probably not like for like."
    )


def _repeated(study: Study) -> Html:
    if not study.repeats:
        return html()
    n = len(study.repeats[NEUTRAL]["w1"]) + 1
    told = []
    for protocol in PROTOCOLS:
        values = [study.seen[protocol][REAL].c2st, *study.repeats[protocol]["c2st"]]
        told.append(f"{protocol} {min(values):.2f} to {max(values):.2f}")
    alt = f"W1 and classifier AUC of two real samples in {n} splits. AUC: {'; '.join(told)}."
    caption = f"Two real samples in {n} random splits of {study.data}, a dot a split; dotted: an AUC of 0.5."
    return _drawn(chance(study), alt, caption)


def _drawn(svg: str, alt: str, caption: str) -> Html:
    return figure(svg_image(svg, alt), caption, class_="drawn")
