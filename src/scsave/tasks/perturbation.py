"""Task `perturbation`: cells under a condition that their type, or their gene, was never seen in (evaluation.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pandas as pd
from anndata import AnnData
from pydantic import Field

from scsave import keys
from scsave.data.catalog import data_with
from scsave.data.splits.hold_out import target_level
from scsave.errors import UserError
from scsave.files import write_h5ad
from scsave.keys import Columns
from scsave.metrics.registry import rows
from scsave.metrics.row import Metric
from scsave.protocol import Context, Method, Outcome
from scsave.runs.folds import run_folder, slug
from scsave.tasks.held_cells import crossed, enough, held_cells, held_types, joined
from scsave.tasks.validation import held_type_scores

Positive = Annotated[int, Field(gt=0)]
Route = Literal["response", "transfer", "generate", "translate"]
VALIDATED = ("pcc", "r2", "r2_pearson_sq", "pcc_delta", "r2_delta")  # metrics of a held-out training type
NEEDS = {"response": "none", "transfer": "autoencoder", "generate": "flow", "translate": "flow"}


@dataclass(kw_only=True)
class Perturbation:
    """Levels (a drug, a cytokine, a disease): one cell type's target cells held out. Sets of genes: `tasks/genetic.py`.

    Every type that has test cells is predicted from its control cells, in two halves (`CrossedScorer`), by each of
    `routes`; `route` is the headline. A type with fewer than `min_cells` control cells has them repeated, for every method
    alike, so that a prediction is not as coarse as a handful of cells. For sets of genes, `perturbation_cells` control
    cells are predicted for each set, and the baselines that know texts read `vectors`.
    """

    name: str = "perturbation"
    hold_out: str | int | list[str | int] | None = None
    target: str | int | None = None
    route: Route = "response"
    routes: list[Route] = field(default_factory=lambda: ["response", "transfer", "generate", "translate"])
    nuisance: list[str] | None = None
    min_cells: Positive = 500
    perturbation_cells: Positive = 300
    vectors: Any = None
    n_top_genes: Positive = 2000
    n_components: Positive = 30
    asks = "perturbation"
    metrics = "response"

    def __post_init__(self) -> None:
        if self.route not in self.routes:
            raise UserError(f"task.route={self.route} is not among task.routes: {', '.join(self.routes)}")

    @property
    def networks(self) -> str:
        needs = {NEEDS[route] for route in self.routes}
        return next(need for need in ("flow", "autoencoder", "none") if need in needs)

    def check(self, columns: Columns) -> None:
        if columns.perturbation is None or columns.control is None:
            raise UserError(
                f"task=perturbation needs a perturbation column and its control level, {columns.name} names none: set "
                f"data.perturbation_key and data.control; data sets with them: {', '.join(data_with('perturbation_key'))}"
            )

    def conditions(self, columns: Columns) -> list[str]:
        named = [
            *columns.conditions,
            columns.perturbation,
            columns.cell_type,
            columns.batch,
            *(self.nuisance or []),
        ]
        return list(dict.fromkeys(name for name in named if name is not None))

    def decoder_conditions(self, columns: Columns, obs: pd.DataFrame) -> list[str]:
        """The perturbation and the nuisance columns, never the cell type: what the decoder is told the latent forgets.

        A batch that control cells are not in would carry the perturbation's own effect, so it is not told.
        """
        nuisance = self.nuisance
        if nuisance is None:
            nuisance = [columns.batch] if columns.batch and crossed(obs, columns) else []
        return list(dict.fromkeys([columns.perturbation, *nuisance]))

    def run(self, context: Context) -> Outcome:
        if context.columns.kind == "genes":
            from scsave.tasks.genetic import run_genetic

            return run_genetic(self, context)
        target = target_level(context.data, context.columns, self.target)
        types = held_types(context.data, context.split, context.columns, target)
        outcomes = {name: self.run_type(context, name, target) for name in types}
        return self.merge(outcomes) if len(outcomes) > 1 else next(iter(outcomes.values()))

    def run_type(self, context: Context, name: str, target: str) -> Outcome:
        """Predict and score one cell type; its files go below the fold's folder."""
        from scsave.metrics.response import ResponseScorer
        from scsave.results.response_figures import draw_summary, draw_type

        control, real, seen = held_cells(context.data, context.split, context.columns, name, target)
        options = {"n_top_genes": self.n_top_genes, "n_components": self.n_components, "seed": context.seed}
        scorer = ResponseScorer(seen, control, real, **options)
        predicted = self.predict(context, enough(scorer.halves, self.min_cells), target)
        scores = {row: {name: scorer.score(*cells)} for row, cells in predicted.items()}
        scores["ceiling"] = {name: scorer.ceiling()}
        scores = {row: {keys.ALL: groups[name]} | groups for row, groups in scores.items()}
        headline = next(iter(predicted))
        top = scorer.predicted_de(joined(predicted[headline]), 20)
        folder = run_folder(context.folder)
        write_h5ad(folder / "predictions" / f"{slug(name)}.h5ad", joined(predicted[headline]))
        if context.figures:
            shown = {row: joined(cells) for row, cells in predicted.items() if row.startswith(context.method.name)}
            draw_type(folder / "figures", name, control, real, shown, scorer.de_genes)
        info = {"types": {name: scorer.info | {"de_genes": scorer.de_genes[:20], "predicted_de_genes": top}}}
        info |= {
            "target": target,
            "control": context.columns.control,
            "headline_route": self.routes_of(context.method)[0],
        }
        return Outcome(scores=scores, info=info, registry="response", draw=lambda folder: draw_summary(folder, scores))

    def predict(self, context: Context, halves: list[AnnData], target: str) -> dict[str, list[AnnData]]:
        """Predictions of both halves by row: the method (all its routes), then what it must be read against."""
        own, found = context.method, {}
        rows = [(own.name if n == 0 else f"{own.name}_{r}", own, r) for n, r in enumerate(self.routes_of(own))]
        for row, method, route in [*rows, *reference_rows()]:
            if row in found:
                continue
            if method is not own:
                method.fit(context.data, context.split, context.columns, context.seed)
            found[row] = [method.respond(half, target, context.seed + n, route) for n, half in enumerate(halves)]
        return found

    def routes_of(self, method: Method) -> list[str]:
        """Ways of predicting that are scored, the headline first."""
        if method.name != "scsave":
            return list(method.routes)
        return [self.route, *(route for route in self.routes if route != self.route)]

    def validation_metrics(self, columns: Columns) -> dict[str, Metric]:
        """Sets of genes: every metric, on the validation perturbations. Levels: agreement of means, on training types."""
        if columns.kind == "genes":
            return rows("genetic")
        if self.route != "response":
            raise UserError(
                f"sweep_metric: task.route={self.route} has no validation score for levels: training types held out in "
                "turn would need networks for each; use task.route=response"
            )
        return {name: row for name, row in rows("response").items() if name in VALIDATED}

    def validate(self, context: Context) -> dict[str, float]:
        if context.columns.kind == "genes":
            from scsave.tasks.genetic import validate_genetic

            return validate_genetic(self, context)
        return held_type_scores(context, target_level(context.data, context.columns, self.target))

    def merge(self, outcomes: dict[str, Outcome]) -> Outcome:
        """All types together: the unweighted mean over types, metric by metric, beside each type."""
        first = next(iter(outcomes.values()))
        if first.registry == "genetic":
            from scsave.tasks.genetic_outcome import merge_genetic

            return merge_genetic(outcomes)
        from scsave.results.response_figures import draw_summary
        from scsave.stats.aggregate import mean_of

        scores = {}
        for row, groups in first.scores.items():
            by_type = {}
            for outcome in outcomes.values():
                by_type |= {name: values for name, values in outcome.scores[row].items() if name != keys.ALL}
            everything = {metric: mean_of([v[metric] for v in by_type.values()]) for metric in groups[keys.ALL]}
            scores[row] = {keys.ALL: everything} | by_type
        types = {name: found for outcome in outcomes.values() for name, found in outcome.info["types"].items()}
        info = first.info | {"types": types}
        return dataclasses.replace(first, scores=scores, info=info, draw=lambda folder: draw_summary(folder, scores))


def reference_rows() -> list[tuple[str, Method, str]]:
    """Row, method and route of the built-in baselines that stand in every table of responses.

    The strongest also with SAVE's way of making cells, so that distances between distributions are compared like with like.
    """
    from scsave.baselines.matching_mean import MatchingMean
    from scsave.baselines.response import CARRY, GeneSlope, MeanShift, NoChange, SimilarShift

    methods = [NoChange(), MeanShift(), SimilarShift(), GeneSlope(), MatchingMean()]
    rows = [(method.name, method, method.routes[0]) for method in methods]
    return [*rows, (f"{GeneSlope.name}_{CARRY}", GeneSlope(), CARRY)]
