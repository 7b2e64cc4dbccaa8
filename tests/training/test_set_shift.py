"""The shift of sets of genes is fitted to the mean changes of training sets, penalised as sets held out say."""

import torch

from scsave.data.conditions import GeneSet
from scsave.models.conditions import SetShift
from scsave.training.set_shift import FEWEST, OWN, USUAL, fit_set_shift

GENES, SIZE = 30, 12


def problem(noise: float, seed: int = 0, by_vector: bool = True):
    """Changes that add up over genes, linear in their vectors or unrelated to these: 20 single genes and 10 pairs."""
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.randn(GENES, 5, generator=rng)
    effect = vectors @ torch.randn(5, SIZE, generator=rng)  # (genes, D)
    effect = effect if by_vector else 2 * torch.randn(effect.shape, generator=rng)
    sets = [[g, -1] for g in range(20)] + [[g, g + 10] for g in range(10)]
    index = torch.tensor(sets)
    truth = torch.stack([sum(effect[g] for g in genes if g >= 0) for genes in sets])
    changes = truth + noise * torch.randn(*truth.shape, generator=rng)
    column = GeneSet("gene", tuple(f"g{k}" for k in range(GENES)), tuple(k < 20 for k in range(GENES)), "control")
    torch.manual_seed(0)
    return SetShift(column, 32, vectors, SIZE), index, changes, effect


def fitted(noise, weight=None, keep=slice(None), by_vector=True):
    shift, index, changes, effect = problem(noise, by_vector=by_vector)
    names = [str(genes) for genes in index.tolist()]
    weight = torch.ones(len(changes)) if weight is None else weight
    fit_set_shift(shift, {"gene": index[keep]}, changes[keep], weight[keep], names[keep], 0)
    return shift, index, changes, effect


def test_an_additive_effect_is_found_and_carries_over_to_pairs_and_to_genes_never_perturbed():
    shift, index, changes, effect = fitted(0.1)
    with torch.no_grad():
        own = (shift({"gene": index}) - changes).square().sum() / changes.square().sum()
        new = torch.tensor([[g, -1] for g in range(20, 30)])
        unseen = (shift({"gene": new}) - effect[20:]).square().sum() / effect[20:].square().sum()
    assert own < 0.05
    assert unseen < 0.5  # five numbers a gene, twenty genes to learn them from
    assert shift.penalty[0] in OWN


def test_control_and_what_is_not_told_are_not_moved():
    shift, *_ = fitted(0.1)
    with torch.no_grad():
        assert shift({"gene": torch.tensor([[-1, -1]])}).abs().max() == 0


def test_what_a_gene_does_beside_its_vector_is_penalised_less_where_vectors_say_nothing():
    own, by_vector = fitted(0.1, by_vector=False)[0].penalty
    assert own < fitted(0.1)[0].penalty[0]
    assert by_vector > fitted(0.1)[0].penalty[1]


def test_few_sets_and_a_given_penalty_choose_nothing():
    few = slice(0, FEWEST - 1)
    assert tuple(fitted(0.1, keep=few)[0].penalty.tolist()) == USUAL
    shift, index, changes, _ = problem(0.1)
    names = [str(genes) for genes in index.tolist()]
    fit_set_shift(shift, {"gene": index}, changes, torch.ones(len(changes)), names, 0, torch.tensor([1.0, 3.0]))
    assert tuple(shift.penalty.tolist()) == (1.0, 3.0)
