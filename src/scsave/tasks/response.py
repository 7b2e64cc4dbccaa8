"""Task for levels of a perturbation (drug, cytokine, disease): treated cells of a held-out cell type (evaluation.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from scsave import keys
from scsave.data.splits.hold_out import target_level
from scsave.errors import UserError
from scsave.files import slug, whole_folder, write_h5ad
from scsave.metrics.registry import rows
from scsave.metrics.row import Metric
from scsave.progress import each
from scsave.protocol import Context, Method, Outcome
from scsave.stats.aggregate import mean_of
from scsave.tasks.base import CounterfactualTask, Positive
from scsave.tasks.held_cells import enough, held_cells, held_types, joined
from scsave.tasks.validation import held_type_scores

VALIDATED = ("pcc", "r2", "r2_pearson_sq", "pcc_delta", "r2_delta")  # metrics of a held-out training type
PREDICTIONS = "predictions"


@dataclass(kw_only=True)
class Response(CounterfactualTask):
    """Every cell type that has test cells is predicted from its control cells, in two halves (`ResponseScorer`).

    A type with fewer than `min_cells` control cells has them repeated, for every method alike, so that a prediction is
    not as coarse as a handful of cells.
    """

    min_cells: Positive = 500
    metrics = "response"

    def run(self, context: Context) -> Outcome:
        target = target_level(context.data, context.columns, self.target)
        types = held_types(context.data, context.split, context.columns, target)
        shown = each(types, "predicting and scoring", "cell types")
        outcomes = {name: self.run_type(context, name, target) for name in shown}
        return self.merge(outcomes, context.folder) if len(outcomes) > 1 else next(iter(outcomes.values()))

    def run_type(self, context: Context, name: str, target: str) -> Outcome:
        """Predict and score one cell type; cells of the headline go to `predictions/<type>.h5ad`, other routes beside."""
        from scsave.metrics.response import ResponseScorer

        control, real, seen = held_cells(context.data, context.split, context.columns, name, target)
        options = {"n_top_genes": self.n_top_genes, "n_components": self.n_components, "seed": context.seed}
        scorer = ResponseScorer(seen, control, real, **options)
        halves = enough(scorer.halves, self.min_cells)
        predicted: dict[str, list[AnnData]] = {}
        asked = self.rows(context)
        for row in each(asked, "sampling", "rows"):
            method, route = asked[row]
            predicted[row] = [method.respond(half, target, context.seed + n, route) for n, half in enumerate(halves)]
        scores = {row: {name: scorer.score(*predicted[row])} for row in each(predicted, "scoring", "rows")}
        scores["ceiling"] = {name: scorer.ceiling()}
        scores = {row: {keys.ALL: groups[name]} | groups for row, groups in scores.items()}
        headline, folder = context.method.name, whole_folder(context.folder) / PREDICTIONS
        top = scorer.predicted_de(joined(predicted[headline]), 20)
        for row, cells in predicted.items():
            if row == headline or row.startswith(f"{headline}_"):
                write_h5ad(folder / f"{slug(name)}{row.removeprefix(headline)}.h5ad", joined(cells))
        info = {
            "kind": "level",
            "types": {name: scorer.info | {"de_genes": scorer.de_genes[:20], "predicted_de_genes": top}},
            "target": target,
            "control": context.columns.control,
            "headline_route": self.routes_of(context.method)[0],
        }
        return Outcome(scores=scores, info=info)

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        """Agreement of means, on training types held out in turn."""
        if self.parts(method):
            raise UserError(
                f"sweep_metric: method={method.name} has no validation score for levels: training types held out in turn "
                "would need networks for each; use a method in closed form, such as method=type_process"
            )
        return {name: row for name, row in rows("response").items() if name in VALIDATED}

    def validate(self, context: Context) -> dict[str, float]:
        return held_type_scores(context, target_level(context.data, context.columns, self.target))

    def merge(self, outcomes: dict[str, Outcome], folder: Path) -> Outcome:
        """All types together: the unweighted mean over types, metric by metric, beside each type."""
        first = next(iter(outcomes.values()))
        scores = {}
        for row, groups in first.scores.items():
            by_type = {}
            for outcome in outcomes.values():
                by_type |= {name: values for name, values in outcome.scores[row].items() if name != keys.ALL}
            everything = {metric: mean_of([v[metric] for v in by_type.values()]) for metric in groups[keys.ALL]}
            scores[row] = {keys.ALL: everything} | by_type
        types = {name: found for outcome in outcomes.values() for name, found in outcome.info["types"].items()}
        return dataclasses.replace(first, scores=scores, info=first.info | {"types": types})
