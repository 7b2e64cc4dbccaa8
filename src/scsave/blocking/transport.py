"""Equal-size partition of genes by iterated balanced optimal transport (method section 1)."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

EXACT_LIMIT = 50_000  # entries of the cost matrix up to which the exact plan takes a tenth of a second or less
PROJECTION = 64  # width at which the first centres are looked for


@dataclass(frozen=True)
class Partition:
    assignment: np.ndarray  # (G,) block of each gene
    objective: np.ndarray  # (iterations + 1,) sum of squared distances to the barycentres; never increases
    solver: str
    converged: bool


def balanced_sizes(n: int, n_blocks: int) -> np.ndarray:
    """(L,) sizes that add up to n and differ by at most one, the larger ones first."""
    return np.full(n_blocks, n // n_blocks) + (np.arange(n_blocks) < n % n_blocks)


def barycentres(vectors: np.ndarray, assignment: np.ndarray, n_blocks: int) -> np.ndarray:
    """(L, d) means of the vectors of each block; every block must have one."""
    n_genes = len(assignment)
    member = sparse.csr_matrix((np.ones(n_genes), (assignment, np.arange(n_genes))), (n_blocks, n_genes))
    return (member @ vectors) / np.bincount(assignment, minlength=n_blocks)[:, None]


def within_block_scatter(vectors: np.ndarray, assignment: np.ndarray, n_blocks: int) -> float:
    """sum_i ||g_i - c_{block of i}||^2, by its definition."""
    centres = barycentres(vectors, assignment, n_blocks)
    return float(((vectors - centres[assignment]) ** 2).sum())


def transport_cost(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(G, L) ||g_i - c_j||^2 less the smallest of its row, which leaves the optimal plan as it is."""
    cost = (centres**2).sum(1) - 2.0 * (vectors @ centres.T)
    return cost - cost.min(1, keepdims=True)


def first_centres(vectors: np.ndarray, n_blocks: int, seed: int) -> np.ndarray:
    """(L, d) vectors chosen by k-means++, on a random projection where they are long."""
    from sklearn.cluster import kmeans_plusplus

    rng = np.random.default_rng(seed)
    short = vectors
    if vectors.shape[1] > PROJECTION:
        short = vectors @ rng.normal(size=(vectors.shape[1], PROJECTION))
    _, chosen = kmeans_plusplus(short, n_blocks, random_state=np.random.RandomState(rng.integers(2**31)))
    return vectors[chosen]


def exact_assignment(cost: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Exact transport; with integer marginals a vertex of the polytope is itself a hard assignment. (G,)"""
    import ot

    plan = ot.emd(np.ones(len(cost)), sizes.astype(np.float64), cost, numItermax=10_000_000)
    return plan.argmax(1)


def sinkhorn_assignment(
    cost: np.ndarray, sizes: np.ndarray, price: np.ndarray, regularisation: float = 0.03
) -> tuple[np.ndarray, np.ndarray]:
    """Sinkhorn for the price of each block, started at `price`, then rounding to exact sizes and swaps. (G,), (L,)"""
    import ot

    n_genes = len(cost)
    reg = regularisation * (cost.std() or 1.0)
    _, log = ot.sinkhorn(
        np.full(n_genes, 1 / n_genes),
        sizes / n_genes,
        cost,
        reg,
        numItermax=20 if price.any() else 100,
        stopThr=1e-4,
        warn=False,
        warmstart=(np.zeros(n_genes), price / reg),
        log=True,
    )
    new_price = reg * np.log(np.maximum(log["v"], np.finfo(np.float64).tiny))
    if not np.isfinite(new_price).all():
        new_price = price
    return swap_improve(cost, round_to_sizes(cost - new_price, sizes)), new_price - new_price.mean()


def round_to_sizes(reduced_cost: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(G,) blocks of exact sizes: genes ask for their cheapest open block, which keeps those that would lose most.

    Each round fills at least one block or places every gene, so there are at most L rounds.
    """
    n_genes, n_blocks = reduced_cost.shape
    assignment = np.full(n_genes, -1)
    room = sizes.copy()
    left = np.arange(n_genes)
    open_cost = np.where(room > 0, reduced_cost, np.inf)
    while len(left):
        costs = open_cost[left]
        wish = costs.argmin(1)
        if (room > 0).sum() > 1:
            best_two = np.partition(costs, 1, axis=1)
            regret = best_two[:, 1] - best_two[:, 0]
        else:
            regret = np.zeros(len(left))
        order = np.lexsort((-regret, wish))  # by block, the largest regret first
        first = np.searchsorted(wish[order], np.arange(n_blocks))
        rank = np.arange(len(left)) - first[wish[order]]
        taken = order[rank < room[wish[order]]]
        assignment[left[taken]] = wish[taken]
        room -= np.bincount(wish[taken], minlength=n_blocks)
        open_cost[:, room == 0] = np.inf
        left = np.delete(left, taken)
    return assignment


def swap_improve(cost: np.ndarray, assignment: np.ndarray, sweeps: int = 4) -> np.ndarray:
    """Exchange genes between two blocks as long as the pair's cost falls; sizes stay, cost never rises. (G,)

    For blocks j and k the best exchange is found by sorting: the gene of j with the least C_k - C_j meets the gene of
    k with the least C_j - C_k, the second meets the second, while the sum is negative.
    """
    assignment = assignment.copy()
    n_blocks = cost.shape[1]
    order = np.argsort(assignment, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(assignment, minlength=n_blocks))[:-1])
    for _ in range(sweeps):
        # a pair can only gain where some gene of one block would rather be in the other
        gain = np.stack([(cost[genes] - cost[genes, j][:, None]).min(0) for j, genes in enumerate(members)])
        pairs = np.argwhere(np.triu(gain + gain.T < -1e-9, 1))
        if not len(pairs):
            break
        for j, k in pairs:
            in_j, in_k = members[j], members[k]
            to_k, to_j = cost[in_j, k] - cost[in_j, j], cost[in_k, j] - cost[in_k, k]
            order_j, order_k = np.argsort(to_k), np.argsort(to_j)
            n = min(len(in_j), len(in_k))
            swaps = np.count_nonzero(to_k[order_j[:n]] + to_j[order_k[:n]] < -1e-9)
            if swaps:
                moved_j, moved_k = in_j[order_j[:swaps]], in_k[order_k[:swaps]]
                members[j] = np.concatenate([in_j[order_j[swaps:]], moved_k])
                members[k] = np.concatenate([in_k[order_k[swaps:]], moved_j])
                assignment[moved_j], assignment[moved_k] = k, j
    return assignment


def partition(
    vectors: np.ndarray, n_blocks: int, seed: int, max_iterations: int = 100, tolerance: float = 1e-6
) -> Partition:
    """Equal-size blocks: transport genes to centres, move centres to barycentres, until nothing moves.

    vectors (G, d), L = n_blocks <= G. Sizes differ by at most one. A step that would not lower the objective (only
    Sinkhorn can raise it) is not taken and ends the iteration. Same seed, same blocks.
    """
    n_genes = len(vectors)
    if not 1 <= n_blocks <= n_genes:
        raise ValueError(f"cannot divide {n_genes} vectors into {n_blocks} blocks")
    if n_blocks in (1, n_genes):
        scatter = within_block_scatter(vectors, np.zeros(n_genes, dtype=np.int64), 1) if n_blocks == 1 else 0.0
        return Partition(np.arange(n_genes) % n_blocks, np.array([scatter]), "trivial", True)
    vectors = vectors - vectors.mean(0, dtype=np.float64)
    sizes = balanced_sizes(n_genes, n_blocks)
    exact = n_genes * n_blocks <= EXACT_LIMIT
    centres = first_centres(vectors, n_blocks, seed)
    total = np.vdot(vectors, vectors)
    price = np.zeros(n_blocks)
    assignment, objective, converged = None, [], False
    for _ in range(max_iterations):
        cost = transport_cost(vectors, centres)
        if exact:
            proposal = exact_assignment(cost, sizes)
        else:
            proposal, price = sinkhorn_assignment(cost, sizes, price)
            if assignment is not None and _paid(cost, proposal) > _paid(cost, assignment):
                proposal = swap_improve(cost, assignment)
        centres = barycentres(vectors, proposal, n_blocks)
        value = float(total - (sizes * (centres**2).sum(1)).sum())  # sum ||g||^2 - sum_j n_j ||c_j||^2
        if objective and value >= objective[-1] * (1 - tolerance):
            converged = True
            break
        assignment = proposal
        objective.append(value)
    return Partition(assignment.astype(np.int64), np.array(objective), "exact" if exact else "sinkhorn", converged)


def _paid(cost: np.ndarray, assignment: np.ndarray) -> float:
    return float(cost[np.arange(len(cost)), assignment].sum())
