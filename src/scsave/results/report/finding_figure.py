"""The finding in three drawings: where the cells lie in each protocol, how wide they spread, what two real samples score."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from scsave.metrics.row import CFGEN, CFGEN_LEGACY, NEUTRAL, PROTOCOLS
from scsave.results.protocol_study import REAL as REAL_ROW
from scsave.results.style import GENERATED, OTHER, REAL, figure

if TYPE_CHECKING:
    from scsave.results.protocol_study import Study

TITLES = {
    NEUTRAL: "neutral\nPCA of other training cells",
    CFGEN: "cfgen\nPCA of the test cells",
    CFGEN_LEGACY: "cfgen_legacy\nthe same, sample not centred",
}
_INK = "#010203"  # stands for the page's text colour, which light and dark set
_THEME = """
:root { --ink: #1d2127 } @media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb } }
@media print { :root { --ink: #1d2127 } }"""
_LOOK = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)


def panels(study: Study) -> str:
    """SVG: rows the second real sample and the generated cells, each over the test cells; columns the protocols."""
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        fig, axes = figure(len(study.rows), len(PROTOCOLS), width=2.7, height=2.3)
        every = [study.test[p]["points"] for p in PROTOCOLS]
        every += [study.seen[p][row].points for p in PROTOCOLS for row in study.rows]
        low, high = np.concatenate(every).min(axis=0), np.concatenate(every).max(axis=0)
        margin = 0.05 * (high - low)
        for i, row in enumerate(study.rows):
            for j, protocol in enumerate(PROTOCOLS):
                ax, seen = axes[i, j], study.seen[protocol][row]
                color = REAL if row == REAL_ROW else GENERATED
                label = "second real sample" if row == REAL_ROW else f"cells of {row}"
                ax.scatter(*np.array(study.test[protocol]["points"]).T, s=5, c=OTHER, linewidths=0, label="test cells")
                ax.scatter(*np.array(seen.points).T, s=5, c=color, linewidths=0, alpha=0.8, label=label)
                ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
                for scatter in ax.collections:
                    scatter.set_rasterized(True)
                score = f"W1 {seen.w1:.1f}   AUC {seen.c2st:.2f}   offset {seen.offset:.1f}"
                ax.set_title(f"{TITLES[protocol]}\n{score}" if not i else score)
                if not j:
                    ax.set_ylabel("component 2")
        for ax in axes[-1]:
            ax.set_xlabel("component 1")
        handles = [line for ax in axes[:, 0] for line in ax.collections]
        shown = {line.get_label(): line for line in handles}
        fig.legend(shown.values(), shown, loc="outside lower center", ncols=len(shown), frameon=False, markerscale=2.5)
        return _svg(fig)


def spread(study: Study) -> str:
    """SVG: standard deviation along each component, test cells against the two samples, a panel a protocol."""
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        # the last protocol projects as the one before it does: a shift changes no spread
        fig, axes = figure(1, 2, width=3.9, height=2.5)
        for ax, protocol in zip(axes, PROTOCOLS[:2], strict=True):
            ax.plot(
                _counted(study.test[protocol]["spread"]), study.test[protocol]["spread"], c=OTHER, lw=3, label="test"
            )
            for row in study.rows:
                sd = study.seen[protocol][row].spread
                color = REAL if row == REAL_ROW else GENERATED
                ax.plot(_counted(sd), sd, c=color, lw=1.2, label="second real sample" if row == REAL_ROW else row)
            ax.set(title=TITLES[protocol], xlabel="component", ylim=(0, None))
        axes[0].set_ylabel("sd of the cells along it")
        axes[0].legend(frameon=False)
        return _svg(fig)


def chance(study: Study) -> str:
    """SVG: what two real samples score in other splits of the same data, W1 and classifier AUC, by protocol."""
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        fig, axes = figure(1, 2, width=3.9, height=2.2)
        for ax, key, label in zip(
            axes, ("w1", "c2st"), ("W1 of two real samples", "AUC of two real samples"), strict=True
        ):
            for place, protocol in enumerate(PROTOCOLS):
                values = [getattr(study.seen[protocol][REAL_ROW], key), *study.repeats.get(protocol, {}).get(key, [])]
                ax.plot(values, np.full(len(values), place), "o", c=REAL, ms=5, alpha=0.7, mew=0)
            if key == "c2st":
                ax.axvline(0.5, color=_INK, lw=0.8, ls=":")
                ax.set_xlim(0.3, 1.03)
            else:
                ax.set_xlim(left=0)
            ax.set(yticks=range(len(PROTOCOLS)), ylim=(len(PROTOCOLS) - 0.5, -0.5), xlabel=label)
            ax.set_yticklabels(PROTOCOLS if key == "w1" else [""] * len(PROTOCOLS))
        return _svg(fig)


def _counted(values: list[float]) -> np.ndarray:
    return np.arange(1, len(values) + 1)


def _svg(fig) -> str:
    """The figure as text, transparent, glyphs as outlines, in the page's colours; the same bytes for the same numbers."""
    import matplotlib
    import matplotlib.pyplot as plt

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "scsave"}):
        fig.savefig(file, format="svg", transparent=True, dpi=130, metadata={"Date": None})
    plt.close(fig)
    text = file.getvalue().replace(_INK, "var(--ink)")
    return text.replace("</style>", f"{_THEME}</style>", 1)
