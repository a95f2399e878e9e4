import dataclasses
import itertools

import numpy as np
import pytest

from ifanp_jax.classical import montage
from ifanp_jax.classical.montage import blending, costs, labelling, offsets
from ifanp_jax.classical.montage.pixels import Hole, is_known, look


def make_texture(height=72, width=96, period=(9, 12)):
    """A picture that repeats, float32 (H, W, 3)."""
    tile = np.random.default_rng(0).uniform(0.2, 0.8, (*period, 3)).astype(np.float32)
    return np.tile(tile, (height // period[0], width // period[1], 1))


def make_hole(size, rows, columns):
    known = np.ones(size, bool)
    known[rows, columns] = False
    return known


def complete(image, known, **options):
    guide = np.full_like(image, 0.5)
    return montage.complete(image, known, guide, np.full(known.shape, 0.2, np.float32), **options)


def test_what_repeats_is_restored_and_hidden_pixels_are_never_read():
    truth = make_texture()
    known = make_hole(truth.shape[:2], slice(24, 44), slice(30, 60))
    image = np.where(known[..., None], truth, np.nan)
    found = complete(image, known)
    np.testing.assert_allclose(found.image, truth, atol=1e-4)
    np.testing.assert_array_equal(found.image[known], truth[known])
    shown = np.argwhere(~known) + found.offsets[~known]
    assert is_known(known, shown).all() and not found.offsets[known].any()


def test_a_large_hole_is_filled_coarse_to_fine_and_the_seed_decides():
    truth = make_texture(144, 180, (18, 20)) * 0.5 + np.linspace(0, 0.5, 180, dtype=np.float32)[:, None]
    known = make_hole(truth.shape[:2], slice(30, 110), slice(50, 130))
    assert (~known).sum() > montage.COARSE_PIXELS
    first, again = (complete(truth, known, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    error = np.sqrt(np.square(first.image - truth)[~known].mean())
    assert error < 0.5 * np.sqrt(np.square(0.5 - truth)[~known].mean())


def test_the_guide_chooses_among_parts():
    # Left half dark, right half bright, and a hole between them that the guide expects to be bright.
    generator = np.random.default_rng(1)
    truth = np.repeat(np.where(np.arange(96) < 48, 0.2, 0.8)[None], 64, axis=0)[..., None]
    truth = (truth + generator.uniform(-0.1, 0.1, (64, 96, 1))).astype(np.float32)
    known = make_hole((64, 96), slice(20, 44), slice(36, 60))
    for level in (0.2, 0.8):
        guide = np.full_like(truth, level)
        found = montage.complete(truth, known, guide, np.full((64, 96), 0.03, np.float32))
        middle = look(truth, np.argwhere(~known) + found.offsets[~known]).reshape(24, 24)[8:16, 8:16]
        assert abs(middle.mean() - level) < 0.1


def test_where_there_is_nothing_to_copy_there_is_no_montage():
    truth = make_texture()
    assert complete(truth, np.ones(truth.shape[:2], bool)) is None
    scattered = np.random.default_rng(2).uniform(size=truth.shape[:2]) < 0.3
    assert complete(truth, scattered) is None


def test_offsets_are_periods_of_what_repeats():
    truth = make_texture()
    known = make_hole(truth.shape[:2], slice(24, 44), slice(30, 60))
    found = offsets.find(np.where(known[..., None], truth, 0.5), known, np.random.default_rng(0))
    lengths = np.abs(found).max(axis=1)
    repeated = found[(found % (9, 12) == 0).all(axis=1)]
    assert len(repeated) >= 8 and len(found) <= offsets.NUM_REPEATED + offsets.NUM_GUIDED
    assert lengths[(found % (9, 12) == 0).all(axis=1)].min() >= offsets.MIN_LENGTH * 96


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_is_the_best_of_all_answers(seed):
    generator = np.random.default_rng(seed)
    count, edges = 6, np.array([(0, 1), (1, 2), (3, 1), (2, 5), (4, 3), (5, 0)])
    taking, penalty = generator.normal(size=count), generator.uniform(0, 0.7, len(edges))
    nodes = np.ones(count, bool)

    def cost(x):
        x = np.asarray(x, float)
        return taking @ x + penalty @ ((1 - x[edges[:, 0]]) * x[edges[:, 1]])

    best = min(itertools.product((0, 1), repeat=count), key=cost)
    np.testing.assert_array_equal(labelling.cut(nodes, taking, edges, penalty), np.array(best, bool))


def make_costs(shape, count, *, seed=4):
    """A hole in a random picture, a few offsets, and random U."""
    generator = np.random.default_rng(seed)
    picture = generator.uniform(size=(20, 20, 2)).astype(np.float32)
    missing = np.zeros((20, 20), bool)
    missing[: shape[0], : shape[1]] = True
    hole = Hole.of(missing)
    everybody = np.arange(len(hole.points))
    unary = [generator.uniform(size=len(everybody)).astype(np.float32) for _ in range(count)]
    shifts = generator.integers(4, 15, (count, 2))
    return costs.Costs(picture, hole, shifts, [everybody] * count, unary)


def test_the_energy_is_what_the_equation_says():
    priced, labels = make_costs((2, 3), 3), np.array([0, 1, 2, 2, 1, 1])
    expected = sum(priced.unary[label][pixel] for pixel, label in enumerate(labels))
    for p, q in priced.hole.pairs:
        for end in (p, q):
            place, a, b = priced.hole.points[end], priced.offsets[labels[p]], priced.offsets[labels[q]]
            expected += np.square(priced.picture[tuple(place + a)] - priced.picture[tuple(place + b)]).sum()
    assert len(priced.hole.pairs) == 7 and priced.energy(labels) == pytest.approx(expected, rel=1e-5)


def test_a_move_finds_the_best_and_minimise_ends_no_higher():
    priced = make_costs((2, 3), 3)
    # From one label for all no cost is truncated: the move is the best of all 64.
    for start, label in ((0, 1), (1, 2), (2, 0)):
        before = np.full(6, start)
        takes, gain = labelling.expand(priced, before, priced.of_labels(before), label)
        moved = before.copy()
        moved[takes] = label
        answers = (np.where(x, label, start) for x in itertools.product((False, True), repeat=6))
        best = min(priced.energy(x) for x in answers)
        assert priced.energy(moved) == pytest.approx(best, abs=1e-3)
        assert gain == pytest.approx(priced.energy(before) - best, abs=1e-3)
    labels = priced.cheapest()
    np.testing.assert_array_equal(labels, np.argmin(priced.unary, axis=0))
    final = labelling.minimise(priced, labels, np.random.default_rng(0), sweeps=3)
    every = min(priced.energy(np.array(x)) for x in itertools.product(range(3), repeat=6))
    assert every - 1e-6 <= priced.energy(final) <= priced.energy(labels)


def test_a_label_is_taken_by_those_alone_that_may():
    priced = make_costs((1, 3), 2)
    unary = [np.full(3, 50, np.float32), np.zeros(2, np.float32)]
    priced = dataclasses.replace(priced, takers=[np.arange(3), np.array([0, 2])], unary=unary)
    found = labelling.minimise(priced, np.zeros(3, int), np.random.default_rng(0), sweeps=2)
    np.testing.assert_array_equal(found, [1, 0, 1])
    np.testing.assert_array_equal(priced.of_labels(np.ones(3, int)), [0, costs.FORBIDDEN, 0])


def test_a_part_costs_what_the_guide_and_the_border_say():
    picture = np.random.default_rng(5).uniform(size=(12, 16, 3)).astype(np.float32)
    known = make_hole((12, 16), slice(4, 8), slice(6, 10))
    blurred, precision = picture[::2, ::2] / 2, np.full((6, 8), 3.0, np.float32)
    level = costs.Level(picture, known, costs.Guide(blurred, precision), halvings=1)
    choosing = ~known
    choosing[7] = False  # its pixels keep the offset (0, 6)
    hole, chosen = Hole.of(choosing), np.zeros((12, 16, 2), int)
    chosen[7, 6:10] = (0, 6)
    shifts, near = np.array([(0, -5), (4, 0)]), [np.ones(12, bool), np.arange(12) > 1]
    priced = costs.make(level, hole, shifts, chosen=chosen, near=near)
    # (0, -5) of columns 6 to 9 shows 1 to 4: all known. (4, 0) of rows 4 to 6 shows 8 to 10.
    np.testing.assert_array_equal(priced.takers[0], np.arange(12))
    np.testing.assert_array_equal(priced.takers[1], np.arange(2, 12))
    number = {tuple(place): index for index, place in enumerate(hole.points.tolist())}
    middle, corner, low = number[5, 7], number[4, 6], number[6, 7]
    guided = 3 * np.square(blurred[2, 1] - blurred[2, 3]).mean()
    assert priced.unary[0][middle] == pytest.approx(guided, rel=1e-5)
    guided = 3 * np.square(blurred[2, 0] - blurred[2, 3]).mean()
    seen = sum(np.square(picture[r, c - 5] - picture[r, c]).sum() for r, c in ((3, 6), (4, 5)))
    assert priced.unary[0][corner] == pytest.approx(guided + costs.BORDER * seen, rel=1e-5)
    guided = 3 * np.square(blurred[3, 1] - blurred[3, 3]).mean()
    seam = sum(np.square(picture[r, 2] - picture[r, 13]).sum() for r in (6, 7))
    assert priced.unary[0][low] == pytest.approx(guided + seam, rel=1e-5)


def test_blending_keeps_gradients_and_meets_the_border():
    # The part is the same ramp, but darker: blending must give the ramp that goes on from the border.
    rows, columns = np.mgrid[:20, :40]
    picture = (0.01 * columns + 0.005 * rows)[..., None].astype(np.float32) + 0.2
    darker = picture.copy()
    darker[:, 20:] -= 0.15
    known = make_hole((20, 40), slice(6, 14), slice(5, 15))
    hole = Hole.of(~known)
    shown = np.tile([0, 20], (len(hole.points), 1))
    found = blending.blend(darker, known, hole, shown)
    np.testing.assert_allclose(found, picture[~known], atol=1e-4)


def test_a_hole_knows_its_neighbours_at_the_picture_s_sides():
    missing = np.zeros((3, 3), bool)
    missing[0, :2] = True
    hole = Hole.of(missing)
    np.testing.assert_array_equal(hole.points, [(0, 0), (0, 1)])
    np.testing.assert_array_equal(hole.pairs, [(0, 1)])
    edges = {(int(n), *map(int, place)) for n, place in zip(hole.border, hole.outside, strict=True)}
    assert edges == {(0, 1, 0), (1, 1, 1), (1, 0, 2)}
