import numpy as np
import pytest

from ifanp_jax.modules.fast import blocks


@pytest.mark.parametrize("at_once", [1, 2, 3, 6])
def test_blocks_take_rows_from_all_parts_of_the_batch(at_once):
    x = np.arange(12).reshape(6, 2)
    cut = blocks.split(x, at_once)
    assert cut.shape == (6 // at_once, at_once, 2)
    np.testing.assert_array_equal(cut[0], x[:: 6 // at_once])
    np.testing.assert_array_equal(blocks.join(cut), x)
