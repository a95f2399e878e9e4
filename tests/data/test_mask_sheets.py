"""Contexts cut from sheets of damage, text and lattices."""

import jax
import numpy as np
import pytest
from PIL import Image

from configs import default
from ifanp_jax.data import mask_sheets, masks
from ifanp_jax.errors import UserError

RNG = np.random.default_rng(0)
SHEETS = [RNG.random((9, 13)) < 0.1, RNG.random((17, 6)) < 0.3]  # no multiples of 8, of different sizes
SHAPE = (300, 5, 4)


def make_config(**fields):
    config = default.get_config().mask
    config.update(fields)
    return config


def draw(sheets, *, seed=0, shape=SHAPE):
    """Damaged pixels, bool (B, H, W)."""
    sampler = jax.jit(lambda key: mask_sheets.draw(key, shape, sheets))
    mask = np.asarray(sampler(jax.random.key(seed)))
    assert mask.shape == (*shape, 1) and mask.dtype == bool
    return ~mask[..., 0]


def parts_of(sheets, h, w):
    """All parts of the sheets in all symmetries, with intact pixels around the sheets."""
    found = set()
    for sheet in sheets:
        for turned in (sheet, sheet.T):
            for one in (turned, turned[::-1], turned[:, ::-1], turned[::-1, ::-1]):
                around = np.pad(one, ((h, h), (w, w)))
                for top in range(around.shape[0] - h + 1):
                    for left in range(around.shape[1] - w + 1):
                        found.add(around[top : top + h, left : left + w].tobytes())
    return found


def test_a_draw_is_a_part_of_a_sheet_with_damage_in_it():
    drawn = draw(mask_sheets.pack([SHEETS]))
    parts = parts_of(SHEETS, *SHAPE[1:])
    assert all(one.tobytes() in parts and one.any() for one in drawn)
    assert len({one.tobytes() for one in drawn}) > 200


def test_parts_come_from_every_sheet_in_every_symmetry_and_damage_lies_anywhere():
    corner = np.zeros((40, 40), bool)
    corner[20, 20:23] = corner[21, 20] = True  # eight symmetries that differ
    drawn = draw(mask_sheets.pack([[corner]]), shape=(2000, 6, 7))
    whole = {one[one.any(1)][:, one.any(0)].tobytes() for one in drawn if one.sum() == 4}
    assert len(whole) == 8
    assert (drawn.mean(axis=0) > 0.02).all()  # of 42 places, four of them damaged at most
    drawn = draw(mask_sheets.pack([[np.ones((1, 1), bool), np.ones((1, 2), bool)]]))
    assert {1, 2} == set(drawn.sum(axis=(1, 2)))


def test_levels_are_drawn_alike_however_much_damage_they_have():
    dense, sparse = np.ones((30, 30), bool), np.zeros((30, 30), bool)
    sparse[15, 15] = True
    is_sparse = draw(mask_sheets.pack([[dense], [sparse]]), shape=(2000, 3, 3)).sum(axis=(1, 2)) == 1
    # A part of the dense one that shows a corner alone is rare.
    assert abs(is_sparse.mean() - 0.5) < 0.05


def test_many_damaged_pixels_are_taken_evenly(monkeypatch):
    monkeypatch.setattr(mask_sheets, "MAX_PLACES", 10)
    sheets = mask_sheets.pack([[np.ones((5, 5), bool)], [np.ones((2, 2), bool)]])
    np.testing.assert_array_equal(sheets.places, [*range(0, 25, 3), 25, 26, 27, 28])
    np.testing.assert_array_equal(sheets.first_places, [0, 9, 13])


def test_a_thin_scratch_and_a_speck_stay_when_a_sheet_is_reduced():
    damaged = np.zeros((80, 80), bool)
    damaged[:, 41] = True
    damaged[10, 10:12] = True
    for scale in mask_sheets.SCALES:
        reduced = mask_sheets.reduce(damaged, scale)
        side = round(80 * scale)
        assert reduced.shape == (side, side)
        assert reduced[:, int(41.5 * scale)].all()
        assert reduced[int(10.5 * scale)].sum() >= 2
        assert reduced.mean() < 0.1 / scale


def test_film_is_cut_from_the_pictures_of_a_folder(tmp_path):
    for index, sheet in enumerate(SHEETS):
        Image.fromarray(np.where(sheet, 0, 255).astype(np.uint8)).convert("1").save(tmp_path / f"{index}.png")
    sheets = mask_sheets.read_film(str(tmp_path))
    assert len(sheets.starts) == len(SHEETS) * len(mask_sheets.SCALES)
    np.testing.assert_array_equal(sheets.sides[:2], [(9, 13), (17, 6)])
    bits = np.unpackbits(sheets.bits)
    for sheet, start in zip(SHEETS, sheets.starts, strict=False):
        np.testing.assert_array_equal(bits[start : start + sheet.size].reshape(sheet.shape), sheet)
    sampler = jax.jit(masks.make_sampler(make_config(kind="film", folder=str(tmp_path))), static_argnums=1)
    mask = np.asarray(sampler(jax.random.key(3), SHAPE))
    assert mask.shape == (*SHAPE, 1) and mask.dtype == bool
    assert (~mask).any(axis=(1, 2, 3)).all()


def save(folder, name, values):
    Image.fromarray(values.astype(np.uint8)).save(folder / name)
    return str(folder)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    def refuse(folder, message, **fields):
        with pytest.raises(UserError, match=message):
            masks.make_sampler(make_config(**{"kind": "film"} | fields, folder=folder))

    refuse("", r"config\.mask\.folder is '' but .*name the folder")
    refuse(str(tmp_path / "none"), r"config\.mask\.folder is '.*none' but must be a folder of mask pictures")
    (tmp_path / "empty").mkdir()
    refuse(str(tmp_path / "empty"), "which holds no picture")
    for name, value in (("white", 255), ("black", 0)):
        (tmp_path / name).mkdir()
        refuse(save(tmp_path / name, "a.png", np.full((4, 5), value)), f"a.png is {name} all over")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    refuse(str(tmp_path / "broken"), "a.png")


def test_more_pixels_than_positions_count_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_sheets, "MAX_PIXELS", 100)
    folder = save(tmp_path, "a.png", 255 * np.eye(10))
    with pytest.raises(UserError, match="more than 100 pixels"):
        mask_sheets.read_film(folder)


def test_a_share_of_film_needs_its_folder_and_no_share_needs_none():
    config = make_config(kind="varied")
    masks.check(config)
    config.shares.film = 0.1
    with pytest.raises(UserError, match=r"config\.mask\.folder is ''"):
        masks.check(config)
    config.kind = "random"
    masks.check(config)


def test_text_is_thin_strokes_that_leave_most_pixels():
    sheets = mask_sheets.write_text()
    assert len(sheets.starts) == len(mask_sheets.FONT_SIZES)
    damaged = draw(sheets, shape=(200, 64, 64))
    assert damaged.any(axis=(1, 2)).all() and 0.08 < damaged.mean() < 0.25
    # Strokes are thin: almost no square of 5x5 is covered whole.
    squares = np.lib.stride_tricks.sliding_window_view(damaged, (5, 5), axis=(1, 2))
    assert squares.all(axis=(-1, -2)).mean() < 0.002


def test_a_lattice_has_its_stride_on_both_axes_and_begins_anywhere():
    mask = np.asarray(jax.jit(mask_sheets.lattice, static_argnums=1)(jax.random.key(0), (600, 12, 24)))
    found = set()
    for observed in mask[..., 0]:
        rows, columns = np.nonzero(observed.any(axis=1))[0], np.nonzero(observed.any(axis=0))[0]
        np.testing.assert_array_equal(observed.sum(), len(rows) * len(columns))
        (stride,) = {*np.diff(rows), *np.diff(columns)}
        found.add((stride, rows[0], columns[0]))
    assert found == {(s, r, c) for s in (2, 3, 4) for r in range(s) for c in range(s)}


def test_new_kinds_leave_the_draws_of_the_others_as_they_are(tmp_path):
    config = make_config(kind="varied", folder=save(tmp_path, "a.png", np.where(SHEETS[1], 0, 255)))

    def sample(**shares):
        config.shares.update(dict.fromkeys(config.shares, 0.0) | shares)
        sampler = jax.jit(masks.make_sampler(config), static_argnums=1)
        return np.asarray(sampler(jax.random.key(0), (400, 8, 8)))

    alone = {kind: sample(**{kind: 1.0}) for kind in config.shares}
    mixed = sample(**dict.fromkeys(alone, 1.0))
    is_kind = {kind: (mixed == mask).all(axis=(1, 2, 3)) for kind, mask in alone.items()}
    assert np.logical_or.reduce(list(is_kind.values())).all()
    for kind in mask_sheets.KINDS:
        assert is_kind[kind].mean() == pytest.approx(1 / len(alone), abs=0.06)


def test_varied_draws_what_it_always_drew():
    """The trainings that were published depend on it."""
    config = make_config(kind="varied", fraction=(0.05, 0.95))
    mask = np.asarray(jax.jit(masks.make_sampler(config), static_argnums=1)(jax.random.key(0), (16, 64, 64)))
    counts = [2854, 2836, 588, 1461, 3652, 2937, 2048, 2854, 3808, 2048, 2048, 3124, 3168, 2048, 2048, 2048]
    assert mask.sum(axis=(1, 2, 3)).tolist() == counts
