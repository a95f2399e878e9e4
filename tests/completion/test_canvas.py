import numpy as np
import pytest

from ifanp_jax.completion.canvas import Border
from ifanp_jax.completion.picture_file import Original
from ifanp_jax.errors import UserError


def test_pixels_and_percent_are_added_where_they_are_named():
    original = Original(np.full((10, 20, 3), 7, np.uint8), {"dpi": (300, 300)})
    observed = np.ones((10, 20), bool)
    larger, seen = Border.parse("2, 1,10%,50%").add(original, observed)
    assert larger.values.shape == (10 + 1 + 5, 20 + 2 + 2, 3) and larger.metadata == original.metadata
    expected = np.zeros((16, 24), bool)
    expected[1:11, 2:22] = True
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(larger.values[expected], 7)
    assert Border.parse("").add(original, observed) == (original, observed)


@pytest.mark.parametrize(
    "text", ["1,2,3", "1,2,3,4,5", "a,0,0,0", "-1,0,0,0", "1.5,0,0,0", "101%,0,0,0", "1,,0,0"]
)
def test_another_form_is_refused(text):
    with pytest.raises(UserError, match="--extend="):
        Border.parse(text)


def test_a_canvas_that_is_too_large_is_refused():
    original = Original(np.zeros((10, 10, 1), np.uint8))
    with pytest.raises(UserError, match="pixels"):
        Border.parse("99999999,0,0,0").add(original, np.ones((10, 10), bool))
