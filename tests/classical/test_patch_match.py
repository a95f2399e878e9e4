import itertools

import numpy as np
import pytest

from ifanp_jax.classical import patch_match

GENERATOR = np.random.default_rng(0)


def with_hole(side, start, size):
    mask = np.ones((side, side, 1), bool)
    mask[start : start + size, start : start + size] = False
    return mask


def tiled(side):
    tile = GENERATOR.random((8, 8, 3), np.float32)
    return np.tile(tile, (side // 8, side // 8, 1))


def test_exact_search_equals_brute_force_in_any_blocks(monkeypatch):
    # Multiples of 1/8: all sums are exact, so ties are ties.
    targets, sources = (GENERATOR.integers(0, 9, (n, 3, 3, 2)).astype(np.float32) / 8 for n in (40, 60))
    sources[50:] = sources[:10]
    targets[:5] = sources[3:8]
    distances = np.square(targets[:, None] - sources[None]).sum(axis=(2, 3, 4))
    expected = distances.argmin(axis=1)
    for entries in (2**24, 60 * 7, 1):
        monkeypatch.setattr(patch_match, "BLOCK_ENTRIES", entries)
        np.testing.assert_array_equal(patch_match.search_exactly(targets, sources), expected)


def test_votes_equal_a_loop():
    values = GENERATOR.random((7, 8, 2), np.float32)
    known = np.ones((7, 8), bool)
    known[3:5, 3:5] = False
    whole = np.lib.stride_tricks.sliding_window_view(known, (3, 3)).all(axis=(2, 3))
    targets, sources = np.argwhere(~whole), np.argwhere(whole)
    matches = sources[GENERATOR.integers(len(sources), size=len(targets))]

    def window(position):
        return values[position[0] : position[0] + 3, position[1] : position[1] + 3]

    pairs = list(zip(targets, matches, strict=True))
    d2 = np.array([np.square(window(t) - window(m)).mean() for t, m in pairs])
    weights = np.exp(-d2 / (2 * np.percentile(d2, 75)))
    expected = values.copy()
    for pixel in np.argwhere(~known):
        votes = [
            (weight, values[tuple(pixel - t + m)])
            for (t, m), weight in zip(pairs, weights, strict=True)
            if (0 <= pixel - t).all() and (pixel - t < 3).all()
        ]
        expected[tuple(pixel)] = sum(w * v for w, v in votes) / sum(w for w, _ in votes)
    np.testing.assert_allclose(patch_match.vote(values, known, targets, matches, 3), expected, atol=1e-5)


@pytest.mark.parametrize("max_whole_side", [128, 16])
def test_a_repeated_random_tile_is_continued(max_whole_side):
    image, mask = tiled(64), with_hole(64, 24, 16)
    assert patch_match.choose_window(mask[:, :, 0]) == 7
    result = patch_match.complete(image, mask, max_whole_side=max_whole_side)
    assert -10 * np.log10(np.square(result - image)[~mask[:, :, 0]].mean() + 1e-10) > 40  # PSNR in the hole
    np.testing.assert_array_equal(result[mask[:, :, 0]], image[mask[:, :, 0]])


def test_the_nearest_window_around_a_first_match_is_found():
    values = tiled(48) + 0.1 * GENERATOR.random((48, 48, 3), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, (5, 5), axis=(0, 1))
    known = with_hole(48, 20, 10)[:, :, 0]
    whole = np.lib.stride_tricks.sliding_window_view(known, (5, 5)).all(axis=(2, 3))
    targets = np.argwhere(~whole)
    start = GENERATOR.integers(-6, 54, targets.shape)  # also beyond the picture, and where nothing is known
    found = patch_match.search_nearby(windows, targets, whole, start)
    places = np.argwhere(whole)
    for target, first, match in zip(targets[::7], start[::7], found[::7], strict=True):
        inside = np.clip(first, 0, 43)
        if not whole[tuple(inside)]:  # the nearest possible match stands for it, or one as near
            apart = np.square(places - inside).sum(axis=1)
            centres = places[apart == apart.min()]
        else:
            centres = inside[None]
        best = []
        for centre in centres:
            near = places[(np.abs(places - centre) <= patch_match.RADIUS).all(axis=1)]
            costs = np.square(windows[tuple(near.T)] - windows[tuple(target)]).sum(axis=(1, 2, 3))
            best.append(tuple(near[costs.argmin()]))
        assert tuple(match) in best


@pytest.mark.parametrize("max_whole_side", [128, 8])
def test_hidden_pixels_are_never_read(max_whole_side):
    image = GENERATOR.random((24, 20, 3), np.float32)
    mask = np.ones((24, 20, 1), bool)
    mask[4:12, 5:15] = False
    expected = patch_match.complete(np.where(mask, image, np.float32(0)), mask, max_whole_side=max_whole_side)
    for hidden in (1, np.nan):
        spoiled = np.where(mask, image, np.float32(hidden))
        result = patch_match.complete(spoiled, mask, max_whole_side=max_whole_side)
        np.testing.assert_array_equal(result, expected)


def test_a_hole_that_a_coarser_level_does_not_have():
    image, mask = GENERATOR.random((160, 150, 1), np.float32), np.ones((160, 150, 1), bool)
    mask[70:73, 20:90] = False
    result = patch_match.complete(image, mask)
    assert np.isfinite(result).all() and not mask.all()
    np.testing.assert_array_equal(result[mask], image[mask])


def masks_at_the_edges():
    for row, column in itertools.product((0, 8), (0, 8)):
        mask = np.ones((16, 16, 1), bool)
        mask[row : row + 8, column : column + 8] = False
        yield mask, 5
    yield with_hole(16, 7, 1), 5
    scattered = np.ones((16, 16, 1), bool)
    scattered[::4, ::4] = False
    yield scattered, 3
    one_known = np.zeros((16, 16, 1), bool)
    one_known[3, 4] = True
    yield one_known, 1
    for shape in ((3, 4), (1, 9)):  # smaller than a window, and one row
        mask = np.ones((*shape, 1), bool)
        mask[0, 2] = False
        yield mask, 1


def test_every_mask_is_completed_with_the_largest_window_that_is_known():
    for mask, window in masks_at_the_edges():
        image, known = GENERATOR.random((*mask.shape[:2], 3), np.float32), mask[:, :, 0]
        assert patch_match.choose_window(known) == window
        result = patch_match.complete(image, mask)
        assert np.isfinite(result).all() and 0 <= result.min() and result.max() <= 1
        np.testing.assert_array_equal(result[known], image[known])
    full = np.ones(mask.shape, bool)
    np.testing.assert_array_equal(patch_match.complete(image, full), image)
    np.testing.assert_array_equal(patch_match.complete(image, ~full), 0.5)


def test_halving_is_a_mean_of_known_pixels():
    known = np.ones((12, 10), bool)
    known[:, 6:] = False
    values = np.where(known[:, :, None], np.float32(0.7), np.float32(0))
    halved, is_known = patch_match.halve(values, known)
    np.testing.assert_allclose(halved[is_known], 0.7, rtol=1e-6)
    assert is_known[2].tolist() == [True, True, True, False, False]
    values = GENERATOR.random((12, 12, 1)).astype(np.float32)
    halved, _ = patch_match.halve(values, np.ones((12, 12), bool))
    kernel = np.array([1, 5, 10, 10, 5, 1]) / 32
    np.testing.assert_allclose(halved[2, 3, 0], kernel @ values[2:8, 4:10, 0] @ kernel, rtol=1e-5)


def test_wrong_arguments():
    with pytest.raises(AssertionError):
        patch_match.complete(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 1), bool))
    with pytest.raises(AssertionError):
        patch_match.complete(np.zeros((4, 4, 3)), np.ones((4, 4, 3), bool))
