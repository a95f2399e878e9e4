"""The time to quality."""

import pytest

from benchmarks import quality
from ifanp_jax import benchmark
from ifanp_jax.errors import UserError
from tests import tiny


def test_a_level_is_passed_between_two_looks():
    curve = [(0.5, 20.0), (1.0, 22.0), (1.5, 21.0), (2.0, 25.0)]
    assert quality.find_passing(curve, 21.0) == 0.75
    assert quality.find_passing(curve, 23.0) == 1.75
    assert quality.find_passing(curve, 19.0) == 0.5
    assert quality.find_passing(curve, 26.0) is None


@pytest.mark.slow
def test_a_training_is_looked_at_in_each_random_cell():
    config = benchmark.prepare(tiny.make_config(**{"evaluate.num_images": 4}))
    result = quality.run(config, tiny.digits(), minutes=1.0, num_steps=3)
    assert [cell["fraction"] for cell in result["cells"]] == [0.2, 0.4, 0.6]
    assert result["num_steps"] == 3 and result["num_images"] == 4
    for cell in result["cells"]:
        assert len(cell["curve"]) == 3 and cell["psnr"] == cell["curve"][-1][1]
        assert cell["interpolation_psnr"] > 5
    caption, _, head, *_ = quality.list_lines(result)
    assert "3 steps of 8" in caption and head.startswith("| observed |")


def test_no_time_is_one_sentence():
    with pytest.raises(UserError, match="--minutes=0 is no time"):
        quality.run(benchmark.prepare(tiny.make_config()), tiny.digits(), minutes=0.0)
