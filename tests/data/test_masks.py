import chex
import jax
import numpy as np
import pytest
from PIL import Image

from configs import default
from ifanp_jax.data import masks
from ifanp_jax.errors import UserError

SHAPE = (3, 6, 8)
random_mask = jax.jit(masks.random, static_argnums=1)


def make_config(**fields):
    config = default.get_config().mask
    config.update(fields)
    return config


def sample(*, seed=0, shape=SHAPE, **fields):
    mask = masks.make_sampler(make_config(**fields))(jax.random.key(seed), shape)
    chex.assert_shape(mask, (*shape, 1))
    chex.assert_type(mask, bool)
    return np.asarray(mask)


@pytest.mark.parametrize("num_observed", [0, 1, 23, 47, 48])
def test_random_observes_exactly_so_many_pixels(num_observed):
    mask = random_mask(jax.random.key(0), SHAPE, num_observed)
    np.testing.assert_array_equal(mask.sum(axis=(1, 2, 3)), num_observed)
    eager = masks.random(jax.random.key(0), SHAPE, num_observed)
    np.testing.assert_array_equal(mask, eager)


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 1, 7), (5, 4, 4), (2, 33, 31)])
def test_random_is_exact_on_any_grid(shape):
    num_pixels = shape[1] * shape[2]
    for num_observed in {0, 1, num_pixels // 2, num_pixels}:
        mask = random_mask(jax.random.key(1), shape, num_observed)
        np.testing.assert_array_equal(mask.sum(axis=(1, 2, 3)), num_observed)


def test_random_is_uniform_and_differs_between_images():
    mask = np.asarray(random_mask(jax.random.key(0), (20_000, 3, 4), 5))[..., 0]
    deviation = np.sqrt(5 / 12 * 7 / 12 / 20_000)
    np.testing.assert_allclose(mask.mean(axis=0), 5 / 12, atol=5 * deviation)
    # Of 792 subsets each appears about 25 times: no two pixels prefer each other.
    _, counts = np.unique(mask.reshape(-1, 12), axis=0, return_counts=True)
    assert len(counts) == 792 and counts.max() < 60


@pytest.mark.parametrize(("h", "w"), [(6, 8), (5, 7), (1, 4)])
def test_halves(h, w):
    half = {side: np.asarray(masks.half(side, (2, h, w)))[..., 0] for side in masks.HALVES}
    for mask in half.values():
        assert mask.shape == (2, h, w) and mask.dtype == bool
    assert half["top"][:, : h // 2].all() and not half["top"][:, h // 2 :].any()
    assert half["left"][:, :, : w // 2].all() and not half["left"][:, :, w // 2 :].any()
    np.testing.assert_array_equal(half["bottom"], half["top"][:, ::-1])
    np.testing.assert_array_equal(half["right"], half["left"][:, :, ::-1])


@pytest.mark.parametrize("side", masks.HALVES)
def test_sampler_gives_the_half(side):
    np.testing.assert_array_equal(sample(kind=side), masks.half(side, SHAPE))


def test_box_in_the_centre():
    mask = sample(kind="box_center", fraction=(0.75,))
    expected = np.ones((6, 8), bool)
    expected[1:4, 2:6] = False  # sqrt(1/4) of 6 and 8 pixels
    np.testing.assert_array_equal(mask[..., 0], np.broadcast_to(expected, SHAPE))


@pytest.mark.parametrize("kind", ["box_center", "box_random"])
@pytest.mark.parametrize(("fraction", "hidden"), [(0.0, 48), (0.75, 12), (1.0, 0)])
def test_box_hides_its_share(kind, fraction, hidden):
    mask = sample(kind=kind, fraction=(fraction,))
    np.testing.assert_array_equal((~mask).sum(axis=(1, 2, 3)), hidden)


def test_random_box_is_whole_and_reaches_every_place():
    hidden = ~sample(kind="box_random", fraction=(0.75,), shape=(500, 6, 8))[..., 0]
    rows, columns = hidden.any(axis=2), hidden.any(axis=1)
    np.testing.assert_array_equal(hidden, rows[:, :, None] & columns[:, None, :])
    np.testing.assert_array_equal(rows.sum(axis=1), 3)
    np.testing.assert_array_equal(columns.sum(axis=1), 4)
    starts = np.stack([rows.argmax(axis=1), columns.argmax(axis=1)], axis=1)
    for axis in (0, 1):  # 4 rows and 5 columns to start from
        places, counts = np.unique(starts[:, axis], return_counts=True)
        assert list(places) == list(range(4 + axis)) and counts.min() > 60


def test_a_random_batch_shares_one_count_that_varies_over_the_range():
    sampler = jax.jit(masks.make_sampler(make_config()), static_argnums=1)
    counts = [
        np.asarray(sampler(jax.random.key(seed), (4, 10, 10)).sum(axis=(1, 2, 3))) for seed in range(60)
    ]
    assert all(len(set(count)) == 1 for count in counts)
    first = [count[0] for count in counts]
    assert 30 <= min(first) <= 34 and 56 <= max(first) <= 60 and len(set(first)) > 10


def test_one_fraction_gives_one_count():
    assert {int(sample(seed=seed, fraction=(0.2,))[0].sum()) for seed in range(4)} == {10}  # round(9.6)


def test_mixed_holds_each_kind_in_its_share():
    num_images = 2000
    mask = sample(kind="mixed", fraction=(0.75,), shape=(num_images, 6, 8))[..., 0]
    halves = np.stack([np.asarray(masks.half(side, (1, 6, 8)))[0, ..., 0] for side in masks.HALVES])
    is_half = (mask[:, None] == halves[None]).all(axis=(2, 3))  # (B, 4)
    assert is_half.any(axis=0).all()
    rows, columns = (~mask).any(axis=2), (~mask).any(axis=1)
    is_box = (mask == ~(rows[:, :, None] & columns[:, None, :])).all(axis=(1, 2)) & ~is_half.any(axis=1)
    is_random = ~is_half.any(axis=1) & ~is_box
    np.testing.assert_array_equal(mask[is_random].sum(axis=(1, 2)), 36)
    found = {"random": is_random.mean(), "half": is_half.any(axis=1).mean(), "box": is_box.mean()}
    assert found == pytest.approx(masks.MIXED_SHARES, abs=0.05)


@pytest.mark.parametrize("kind", sorted(set(masks.KINDS) - {"file", "film"}))  # which need files
def test_samplers_follow_from_the_key_and_may_be_compiled(kind):
    sampler = masks.make_sampler(make_config(kind=kind))
    eager = sampler(jax.random.key(3), SHAPE)
    np.testing.assert_array_equal(jax.jit(sampler, static_argnums=1)(jax.random.key(3), SHAPE), eager)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "sparkling"}, "config.mask.kind is 'sparkling'; choose one of random"),
        ({"fraction": (0.6, 0.3)}, "config.mask.fraction"),
        ({"fraction": (-0.1,)}, "config.mask.fraction"),
        ({"fraction": (0.5, 1.1)}, "config.mask.fraction"),
        ({"fraction": (float("nan"),)}, "config.mask.fraction"),
        ({"fraction": (0.1, 0.2, 0.3)}, "config.mask.fraction"),
        ({"fraction": ()}, "config.mask.fraction"),
        ({"kind": "file", "file": "missing.npy"}, "missing.npy"),
        ({"kind": "file", "file": "missing.png"}, "missing.png"),
    ],
)
def test_a_user_error_says_what_was_got(fields, message):
    with pytest.raises(UserError, match=message):
        masks.make_sampler(make_config(**fields))


PATTERN = np.random.default_rng(0).random((6, 8)) < 0.5


@pytest.mark.parametrize(
    "saved",
    [PATTERN, PATTERN[..., None], PATTERN.astype(np.uint8), -0.5 * PATTERN],
    ids=["bool", "hw1", "uint8", "float"],
)
def test_array_file(tmp_path, saved):
    path = str(tmp_path / "mask.npy")
    np.save(path, saved)
    mask = sample(kind="file", file=path)
    np.testing.assert_array_equal(mask[..., 0], np.broadcast_to(PATTERN, SHAPE))


def test_picture_file(tmp_path):
    path = str(tmp_path / "mask.png")
    Image.fromarray(np.where(PATTERN, 128, 127).astype(np.uint8)).save(path)
    np.testing.assert_array_equal(masks.load(path), PATTERN)


@pytest.mark.parametrize(
    "content",
    [
        np.array([[None]]),
        np.zeros((2, 3, 4)),
        np.zeros(5),
        np.array([["a"]]),
        np.zeros((2, 2), complex),
        None,
    ],
    ids=["pickled", "rank3", "rank1", "text", "complex", "nothing"],
)
def test_an_unusable_array_file_is_refused(tmp_path, content):
    path = tmp_path / "mask.npy"
    if content is None:
        path.touch()
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(UserError, match=r"mask .*mask\.npy (cannot be read|holds)"):
        masks.load(str(path))


def test_a_mask_file_of_another_size_is_refused(tmp_path):
    path = str(tmp_path / "mask.npy")
    np.save(path, PATTERN)
    with pytest.raises(UserError, match="6x8 pixels but the images are 8x8"):
        sample(kind="file", file=path, shape=(2, 8, 8))


def sample_varied(num_images=600, side=16, **shares):
    mask = masks.varied(
        jax.random.key(0), (num_images, side, side), (0.1, 0.9), dict.fromkeys(VARIED, 0.0) | shares
    )
    return np.asarray(mask)


VARIED = ("random", "half", "box", "strokes")


def test_varied_images_have_counts_of_their_own_in_the_range():
    counts = sample_varied(random=2.0).sum(axis=(1, 2, 3))
    assert counts.min() >= round(0.1 * 256) and counts.max() <= round(0.9 * 256)
    assert len(set(counts)) > 100 and abs(counts.mean() / 256 - 0.5) < 0.05


def test_varied_halves_are_all_four_and_boxes_are_one_rectangle():
    halves = {one.tobytes() for one in sample_varied(half=1.0)}
    assert halves == {np.asarray(masks.half(side, (1, 16, 16)))[0].tobytes() for side in masks.HALVES}
    for observed in sample_varied(num_images=50, box=1.0)[..., 0]:
        rows, columns = np.nonzero(~observed.all(axis=1))[0], np.nonzero(~observed.all(axis=0))[0]
        box = observed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert not box.any() and (~observed).sum() == box.size
        assert all(4 <= side <= 12 for side in box.shape)


@pytest.mark.parametrize("kind", ["mixed", "varied"])
def test_kind_and_half_are_drawn_independently(kind):
    fields = {"kind": kind, "fraction": (0.75,)}
    sampler = jax.jit(masks.make_sampler(make_config(**fields)), static_argnums=1)
    mask = np.asarray(sampler(jax.random.key(1), (8000, 6, 8)))
    halves = np.stack([np.asarray(masks.half(side, (1, 6, 8)))[0] for side in masks.HALVES])
    counts = (mask[:, None] == halves[None]).all(axis=(2, 3, 4)).sum(axis=0)
    share = masks.MIXED_SHARES["half"] if kind == "mixed" else 0.15
    expected = 8000 * share / 4  # of each of the four
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))


def test_varied_kinds_come_with_their_shares():
    shares = {"random": 0.5, "half": 0.25, "box": 0.25, "strokes": 0.0}
    mask = sample_varied(num_images=2000, **shares)
    halves = np.stack([np.asarray(masks.half(side, (1, 16, 16)))[0] for side in masks.HALVES])
    is_half = (mask[:, None] == halves[None]).all(axis=(2, 3, 4)).any(axis=1)
    assert abs(is_half.mean() - 0.25) < 0.04


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("shares", {"random": -1.0}),
        ("shares", dict.fromkeys(VARIED, 0.0)),
        ("hole_shares", dict.fromkeys(masks.HOLES, 0.0)),
    ],
)
def test_impossible_shares_are_refused(name, shares):
    config = default.get_config().mask
    config[name].update(shares)
    with pytest.raises(UserError, match=rf"config\.mask\.{name} is"):
        masks.check(config)
