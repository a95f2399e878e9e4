import numpy as np

from tests.inpainters.table import IMAGES, MASKS, SIZE, answer


def test_the_centre_form_fills_nothing_but_the_centre():
    found = answer("context_encoder_centre")
    inside = np.where(MASKS, 2 * IMAGES - 1, 0)
    outside = np.ones((SIZE, SIZE), bool)
    outside[4:12, 4:12] = False
    np.testing.assert_array_equal(found.raw[:, outside], inside[:, outside])
    assert (found.raw[:, ~outside] != inside[:, ~outside]).all()
