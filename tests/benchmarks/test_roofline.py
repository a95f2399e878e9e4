"""Operations, bytes and bounds."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inputs, parts, roofline
from configs import digits_multiscale
from ifanp_jax.runtime import flops
from ifanp_jax.training import runs
from tests import tiny


def test_a_bound_is_the_larger_of_both_times():
    device = roofline.Device("device", flops_per_second=1e12, bytes_per_second=1e9)
    assert roofline.bound(2e9, 1e6, device) == {"milliseconds": 2.0, "reason": "products"}
    assert roofline.bound(2e9, 5e6, device) == {"milliseconds": 5.0, "reason": "memory"}


def test_a_product_is_counted_as_it_is():
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    row = roofline.count("product", jnp.matmul, x, x)
    assert row["products"] == 2 * 64**3
    assert row["flops"] >= row["products"] and row["bytes"] >= 3 * 4 * 64**2


def test_the_table_has_every_part_and_the_step():
    overrides = {"model.name": "image_np.IFNP", "model.compute_dtype": "bfloat16", "train.batch_size": 4}
    config = tiny.make_config(**overrides)
    result = roofline.run(config, (6, 6, 1))
    assert result["dtype"] == "float32"
    names = [row["part"].split(",")[0] for row in result["rows"]]
    assert names == ["latent path", "decoder", "objective", "whole step"]
    *found, step = (row["products"] for row in result["rows"])
    # The step does not need the gradient of its masked input.
    np.testing.assert_allclose(sum(found), step, rtol=0.1)
    assert len(roofline.list_lines(result)) == 4 + len(names)


def test_the_parts_of_the_multiscale_model_are_its_step():
    config = digits_multiscale.get_config()
    config.model.update(widths=(4, 8), down_blocks=(1, 1), up_blocks=(1,))
    config.train.update(batch_size=4, optimizer="adam")
    run = runs.make(inputs.prepare(config), (8, 8, 1))
    counted = {}
    for name, function, values in parts.list_parts(run):
        cotangent = jax.eval_shape(function, *values)
        counted[name] = flops.count(lambda g, *x, f=function: jax.vjp(f, *x)[1](g), cotangent, *values)
    assert list(counted) == ["kernel interpolation", "way down", "way up", "heads and objective"]
    np.testing.assert_allclose(sum(counted.values()), inputs.count_step_flops(run), rtol=0.1)
