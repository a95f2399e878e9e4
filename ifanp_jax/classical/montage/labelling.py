"""Which part each missing pixel shows: the moves that lower what it costs.

An expansion move of a label asks every pixel at once whether to take that label; the best answer of all is a
minimum cut (Boykov, Veksler and Zabih, "Fast approximate energy minimization via graph cuts", 2001).
"""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ifanp_jax.classical.montage.costs import FORBIDDEN, Costs

UNITS = 1e4  # of an integer capacity in a cost of 1
LARGEST = 2**24  # capacity: sums over a hole stay within 32 bits
MIN_GAIN = 1e-3  # of the energy, by which a sweep must lower it for another one


def minimise(costs: Costs, labels: np.ndarray, generator: np.random.Generator, *, sweeps: int) -> np.ndarray:
    """Lowers the energy by sweeps of moves, one for each label in a random order; int (N,).

    After the first sweep, labels that nobody took are not tried again.
    """
    labels, own = labels.copy(), costs.of_labels(labels)
    tried, energy = np.arange(len(costs.offsets)), costs.energy(labels)
    for _ in range(sweeps):
        gain = 0.0
        for label in generator.permutation(tried):
            takes, gained = expand(costs, labels, own, label)
            labels[takes], gain = label, gain + gained
            own[takes] = costs.unary[label][np.searchsorted(costs.takers[label], takes)]
        if gain < MIN_GAIN * energy:
            break
        tried, energy = np.unique(labels), energy - gain
    return labels


def expand(costs: Costs, labels: np.ndarray, own: np.ndarray, label: int) -> tuple[np.ndarray, float]:
    """The best move of one label: the pixels that take it, int (M,), and by how much the energy falls.

    `own`, float32 (N,), is U of the int (N,) labels.
    """
    is_other = labels[costs.takers[label]] != label
    movers = costs.takers[label][is_other]
    may_take, change = np.zeros(len(labels), bool), np.zeros(len(labels))
    may_take[movers] = True
    change[movers] = costs.unary[label][is_other] - own[movers]
    pairs = costs.hole.pairs
    p, q = pairs[may_take[pairs[:, 0]] | may_take[pairs[:, 1]]].T
    # The costs of an edge where both keep, the second takes, the first takes; both take: 0.
    kept = costs.of_pairs(labels[p], labels[q], p, q)
    second = costs.of_pairs(labels[p], label, p, q)
    first = costs.of_pairs(label, labels[q], p, q)
    p_may, q_may = may_take[p], may_take[q]
    are_free = p_may & q_may
    none = np.where(are_free, np.minimum(kept, first + second), kept)  # else no cut can say it
    # As a sum: what taking costs each pixel, and what it costs an edge that only the second one takes.
    taking = change.copy()
    for pixels, cost, counts in (
        (p, first - none, p_may),
        (q, -first, are_free),
        (q, second - none, q_may & ~p_may),
    ):
        taking += np.bincount(pixels[counts], cost[counts], len(labels))
    if not (taking[movers] < 0).any():
        return np.zeros(0, int), 0.0
    edges = np.stack([p, q], axis=1)[are_free]
    takes = cut(may_take, taking, edges, (first + second - none)[are_free])
    # A move is optimal for truncated costs; it counts where the true ones fall.
    moved = np.where(takes, label, labels)
    gain = (kept - costs.of_pairs(moved[p], moved[q], p, q)).sum(dtype=np.float64) - change[takes].sum()
    return (np.flatnonzero(takes), float(gain)) if gain > 0 else (np.zeros(0, int), 0.0)


def cut(nodes: np.ndarray, taking: np.ndarray, edges: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Who takes a label: the x with the least sum_p taking_p x_p + sum_pq penalty_pq (1 - x_p) x_q.

    Args:
      nodes: bool (N,), the pixels that may take it.
      taking: float (N,).
      edges: int (E, 2), of such pixels.
      penalty: float (E,), at least 0.

    Returns:
      bool (N,).
    """
    count = int(nodes.sum())
    number = np.full(len(nodes), -1)
    number[nodes] = np.arange(count)
    source, sink = count, count + 1
    cost = np.rint(np.clip(taking[nodes], -FORBIDDEN, FORBIDDEN) * UNITS).astype(np.int64)
    pays, gains = np.flatnonzero(cost > 0), np.flatnonzero(cost < 0)
    tails = np.concatenate([np.full(len(pays), source), gains, number[edges[:, 0]]])
    heads = np.concatenate([pays, np.full(len(gains), sink), number[edges[:, 1]]])
    between = np.rint(penalty * UNITS).astype(np.int64)
    capacities = np.minimum(np.concatenate([cost[pays], -cost[gains], between]), LARGEST).astype(np.int32)
    graph = sparse.csr_array((capacities, (tails, heads)), shape=(count + 2, count + 2))
    rest = graph - csgraph.maximum_flow(graph, source, sink).flow
    rest.data = np.maximum(rest.data, 0)
    rest.eliminate_zeros()
    keeps = np.zeros(count + 2, bool)
    keeps[csgraph.breadth_first_order(rest, source, return_predecessors=False)] = True
    takes = np.zeros(len(nodes), bool)
    takes[nodes] = ~keeps[:count]
    return takes
