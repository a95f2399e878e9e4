import numpy as np
from scipy import ndimage

from ifanp_jax.classical import grain


def make_film(size=(80, 120), strength=0.04):
    """A grey picture with correlated noise, and thin marks in it."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(*size, 3)), (0.6, 0.6, 0))
    picture = (0.5 + strength * noise / noise.std()).astype(np.float32)
    known = np.ones(size, bool)
    known[20:24, 10:110] = False
    known[40:70, 60:63] = False
    return picture, known


def detail(values):
    return values - ndimage.gaussian_filter(values, (1.5, 1.5, 0))


def test_a_smooth_estimate_gets_the_strength_and_the_correlation_of_its_surroundings():
    picture, known = make_film()
    estimate = np.where(known[..., None], picture, np.float32(0.5))
    found = grain.add(estimate, known)
    np.testing.assert_array_equal(found[known], picture[known])
    mark = (slice(20, 24), slice(10, 110))
    for axis in (0, 1):  # neighbours are as alike as in the picture
        changes = [np.diff(values[mark], axis=axis).std() for values in (found, picture, estimate)]
        assert changes[2] < 1e-6 and 0.6 < changes[0] / changes[1] < 1.2
    assert abs(found[mark].mean() - 0.5) < 0.01


def test_grain_comes_from_where_the_colours_are_alike():
    # A calm dark half and a rough bright one: the mark in each half stays calm and becomes rough.
    generator = np.random.default_rng(1)
    rough = np.arange(120) >= 60
    picture = np.where(rough, 0.8, 0.2) + np.where(rough, 0.1, 0.0) * generator.uniform(-1, 1, (60, 120))
    picture, known = picture[..., None].astype(np.float32), np.ones((60, 120), bool)
    known[28:32, 50:70] = False
    estimate = np.where(known[..., None], picture, np.where(rough, 0.8, 0.2)[:, None]).astype(np.float32)
    found = grain.add(estimate, known)
    assert found[28:32, 50:57].std() < 0.01 < 0.02 < found[28:32, 63:70].std()


def test_every_strip_of_a_tall_picture_is_answered_and_hidden_detail_is_not_read(monkeypatch):
    picture, known = make_film((300, 60))
    known[:, 30:33] = False
    estimate = np.where(known[..., None], picture, np.float32(0.5))
    monkeypatch.setattr(grain, "ROWS", 64)
    found = grain.add(estimate, known)
    lines = np.abs(found - estimate)[:, 30:33].max(axis=(1, 2))
    assert (lines > 0).mean() > 0.98
    # Where no detail is within reach, the estimate stays.
    alone = np.zeros((100, 100), bool)
    alone[:2] = True
    values = np.full((100, 100, 1), 0.5, np.float32)
    np.testing.assert_array_equal(grain.add(values, alone), values)
