"""Which part each missing pixel shows: costs, and the moves that lower them.

An expansion move of a label asks every pixel at once whether to take that label; the best answer of all is a
minimum cut (Boykov, Veksler and Zabih, "Fast approximate energy minimization via graph cuts", 2001).
"""

import dataclasses

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from ifanp_jax.classical.montage.pixels import Hole, distance

FORBIDDEN = 1e3  # cost of a part that is not there
UNITS = 1e4  # of an integer capacity in a cost of 1
LARGEST = 2**24  # capacity: sums over a hole stay within 32 bits
MIN_GAIN = 1e-3  # of the energy, by which a sweep must lower it for another one


@dataclasses.dataclass(frozen=True, eq=False)
class Costs:
    """What K labels cost at the N pixels of a hole.

    Attributes:
      hole: the pixels.
      colors: float32 (K, N, C), what each pixel shows under each label.
      unary: float32 (K, N), FORBIDDEN where there is no such part.
    """

    hole: Hole
    colors: np.ndarray
    unary: np.ndarray

    def of_pairs(self, label_p, label_q, p, q) -> np.ndarray:
        """V, float32 (E,): how far two labels differ at both pixels of an edge."""
        colors = self.colors
        at_p = distance(colors[label_p, p], colors[label_q, p])
        return at_p + distance(colors[label_p, q], colors[label_q, q])

    def energy(self, labels: np.ndarray) -> float:
        """E of int (N,) labels."""
        p, q = self.hole.pairs.T
        unary = self.unary[labels, np.arange(len(labels))].sum(dtype=np.float64)
        return unary + self.of_pairs(labels[p], labels[q], p, q).sum(dtype=np.float64)


def minimise(costs: Costs, labels: np.ndarray, generator: np.random.Generator, *, sweeps: int) -> np.ndarray:
    """Lowers the energy by sweeps of moves, one for each label in a random order; int (N,).

    After the first sweep, labels that nobody took are not tried again.
    """
    energy, tried = costs.energy(labels), np.arange(len(costs.unary))
    for _ in range(sweeps):
        before = energy
        for label in generator.permutation(tried):
            moved = expand(costs, labels, label)
            # A move is optimal for truncated costs; it counts where the true ones fall.
            if moved is not None and (found := costs.energy(moved)) < energy:
                labels, energy = moved, found
        if before - energy < MIN_GAIN * before:
            break
        tried = np.unique(labels)
    return labels


def expand(costs: Costs, labels: np.ndarray, label: int) -> np.ndarray | None:
    """The labels, int (N,), after the best move of one, or None where nothing moves."""
    may_take = (costs.unary[label] < FORBIDDEN) & (labels != label)
    p, q = costs.hole.pairs[may_take[costs.hole.pairs].any(axis=1)].T
    # The costs of an edge where both keep, the second takes, the first takes; both take: 0.
    none = costs.of_pairs(labels[p], labels[q], p, q)
    second = np.where(labels[p] == label, 0, costs.of_pairs(labels[p], label, p, q))
    first = costs.of_pairs(label, labels[q], p, q)
    p_may, q_may = may_take[p], may_take[q]
    are_free = p_may & q_may
    none = np.where(are_free, np.minimum(none, first + second), none)  # else no cut can say it
    # As a sum: what taking costs each pixel, and what it costs an edge that only the second one takes.
    own = costs.unary[label] - costs.unary[labels, np.arange(len(labels))]
    taking = np.where(may_take, own, 0).astype(np.float64)
    for pixels, cost, counts in (
        (p, first - none, p_may),
        (q, -first, are_free),
        (q, second - none, q_may & ~p_may),
    ):
        taking += np.bincount(pixels[counts], cost[counts], len(labels))
    if not (taking[may_take] < 0).any():
        return None
    edges = np.stack([p, q], axis=1)[are_free]
    takes = cut(may_take, taking, edges, (first + second - none)[are_free])
    return np.where(takes, label, labels) if takes.any() else None


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
