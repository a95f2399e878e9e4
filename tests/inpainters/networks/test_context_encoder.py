import numpy as np

from tests.inpainters.test_contract import IMAGES, MASKS, SIZE, compiled


def test_the_centre_form_fills_nothing_but_the_centre():
    answer = compiled("context_encoder_centre")(IMAGES, MASKS)
    inside = np.where(MASKS, 2 * IMAGES - 1, 0)
    outside = np.ones((SIZE, SIZE), bool)
    outside[4:12, 4:12] = False
    np.testing.assert_array_equal(answer.raw[:, outside], inside[:, outside])
    assert (answer.raw[:, ~outside] != inside[:, ~outside]).all()
