"""Task for levels of a perturbation (drug, cytokine, disease): treated cells of a held-out cell type (evaluation.md)."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anndata import AnnData

from scsave import keys
from scsave.data.splits.hold_out import Scope, targets_of
from scsave.data.targets import SEEN, Targets
from scsave.errors import UserError
from scsave.files import slug, whole_folder, write_h5ad
from scsave.metrics.registry import rows
from scsave.metrics.response import ResponseScorer
from scsave.metrics.row import Metric
from scsave.progress import each
from scsave.protocol import Context, Method, Outcome
from scsave.stats.agreement import means_of
from scsave.stats.expected import METRIC, TRUST, trust_table
from scsave.tasks.base import CounterfactualTask, Positive, Rows, enough, held_cells, held_pairs, joined, reached
from scsave.tasks.validation import held_type_scores

log = logging.getLogger("scsave")
VALIDATED = ("pcc", "r2", "r2_pearson_sq", "pcc_delta", "r2_delta")  # metrics of a held-out training type
PREDICTIONS = "predictions"
READ = METRIC["response"]  # the metric that the expected accuracy is of


@dataclass(kw_only=True)
class Response(CounterfactualTask):
    """Every cell type that has test cells is predicted from its control cells, in two halves (`ResponseScorer`), under each
    target that it has some under. `hold_out_scope` is the split's, for the record.

    A type with fewer than `min_cells` control cells has them repeated, for every method alike, so that a prediction is
    not as coarse as a handful of cells.
    """

    min_cells: Positive = 500
    hold_out_scope: Scope = "type"
    metrics = "response"

    def run(self, context: Context) -> Outcome:
        """Predict and score every held-out group: a type, or where there are several targets a type and a target."""
        targets = targets_of(context.data, context.columns, self.target)
        pairs = held_pairs(context.data, context.split, context.columns, targets)
        known = Targets.of(context.data.obs.iloc[context.split.train], context.columns)
        status = {target: known.status(target) for _, target in pairs}
        methods, space, outcomes = self.rows(context), None, {}
        for kind, target in each(pairs, "predicting and scoring", "groups"):
            name = kind if len(targets) == 1 else target if context.columns.cell_type is None else f"{kind}, {target}"
            outcomes[name], space = self.run_group(context, name, kind, target, status[target], methods, space)
        return self.merge(outcomes, context.folder) if len(outcomes) > 1 else next(iter(outcomes.values()))

    def run_group(
        self, context: Context, name: str, kind: str, target: str, status: str, methods: Rows, space: Any
    ) -> tuple[Outcome, Any]:
        """Predict and score one group; cells of the headline go to `predictions/<name>.h5ad`, other routes beside.

        `status` of the target in training; `space` of the distances, which all groups of a split share (None: the first).
        """
        control, real, seen = held_cells(context.data, context.split, context.columns, kind, target)
        options = {"n_top_genes": self.n_top_genes, "n_components": self.n_components, "seed": context.seed}
        scorer = ResponseScorer(seen, control, real, **options, space=space)
        halves = enough(scorer.halves, self.min_cells)
        predicted: dict[str, list[AnnData]] = {}
        for row in each(methods, "sampling", "rows"):
            method, route = methods[row]
            try:
                cells = [method.respond(half, target, context.seed + n, route) for n, half in enumerate(halves)]
            except UserError as error:
                if row == context.method.name:
                    raise
                log.warning("row %s left out of %s: %s", row, name, error)
                continue
            predicted[row] = cells
        scores = {row: {name: scorer.score(*predicted[row])} for row in each(predicted, "scoring", "rows")}
        scores["ceiling"] = {name: scorer.ceiling()}
        scores = {row: {keys.ALL: groups[name]} | groups for row, groups in scores.items()}
        headline, folder = context.method.name, whole_folder(context.folder) / PREDICTIONS
        own = {row: route for row, (method, route) in methods.items() if method is context.method and row in predicted}
        made = {row: joined(predicted[row]) for row in own}
        expected = {row: reached(context.method.trust(control, target, route), scores[row][name][READ])
                    for row, route in own.items()}  # fmt: skip
        top = scorer.predicted_de(made[headline], 20)
        for row, route in own.items():
            made[row].uns[TRUST] = trust_table({name: expected[row]}, {} if status == SEEN else {name: status})
            write_h5ad(folder / f"{slug(name)}{'' if row == headline else f'_{route}'}.h5ad", made[row])
        about = {"type": kind, "target": target, "in_training": status, "de_genes": scorer.de_genes[:20]}
        info = {
            "kind": "level",
            "types": {name: scorer.info | about | {"predicted_de_genes": top}},
            "target": target,
            "control": context.columns.control,
            "columns": [context.columns.perturbation, *(context.columns.perturbation_columns or [])],
            "hold_out_scope": self.hold_out_scope,
            "headline_route": self.routes_of(context.method)[0],
            TRUST: {name: expected[headline]},
        }
        return Outcome(scores=scores, info=info), scorer.space

    def validation_metrics(self, method: Method) -> dict[str, Metric]:
        """Agreement of means, on training types held out in turn."""
        if self.parts(method):
            raise UserError(
                f"sweep_metric: method={method.name} has no validation score for levels: training types held out in turn "
                "would need networks for each; use a method in closed form, such as method=type_process"
            )
        return {name: row for name, row in rows("response").items() if name in VALIDATED}

    def validate(self, context: Context) -> dict[str, float]:
        return held_type_scores(context, targets_of(context.data, context.columns, self.target))

    def merge(self, outcomes: dict[str, Outcome], folder: Path) -> Outcome:
        """All groups together: the unweighted mean over groups, metric by metric, beside each group.

        A row that a group lacks is the mean over those that have it.
        """
        first, scores = next(iter(outcomes.values())), {}
        order = dict.fromkeys(row for outcome in outcomes.values() for row in outcome.scores)
        for row in [*(row for row in order if row != "ceiling"), "ceiling"]:
            by_type = {}
            for outcome in (outcome for outcome in outcomes.values() if row in outcome.scores):
                by_type |= {name: values for name, values in outcome.scores[row].items() if name != keys.ALL}
            scores[row] = {keys.ALL: means_of(list(by_type.values()))} | by_type
        info = dict(first.info)
        for key in ("types", TRUST):
            info[key] = {name: found for outcome in outcomes.values() for name, found in outcome.info[key].items()}
        info["target"] = "; ".join(dict.fromkeys(one["target"] for one in info["types"].values()))
        return dataclasses.replace(first, scores=scores, info=info)
