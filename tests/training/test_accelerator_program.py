"""The training step as it is lowered for GPUs and TPUs; no such device is needed to read the program."""

import functools
import math
import re

import jax
import jax.export
import jax.numpy as jnp
import pytest

from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch, runs
from tests import helpers, tiny

PLATFORMS = ("cuda", "tpu")
SIDE, BATCH, NUM_IMAGES, NUM_STEPS = 32, 8, 64, 2
PAIRS = (SIDE * SIDE) ** 2
FIELDS = {
    "image_np.IFANP": {},
    "multiscale_np.MultiscaleNP": {"widths": (8, 16), "down_blocks": (1, 1), "up_blocks": (1,)},
    "point_np.ANP": {"num_heads": 2},
}
# What a program may call by name: random bits of a GPU, and notes to the compiler.
CALLS = {"cu_threefry2x32_ffi", "Sharding", "xla.sdy.FuncResultSharding"}


@functools.cache
def lower(name, compute_dtype):
    """The StableHLO of two steps in one dispatch, traced as on an accelerator."""
    model = tiny.make_model_config(name, compute_dtype=compute_dtype, **FIELDS[name])
    config = tiny.make_config(**{"train.batch_size": BATCH, "train.ema_decay": 0.99})
    config.model = model
    run, mesh = runs.make(config, (SIDE, SIDE, 1)), device_mesh.make_mesh(devices=jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "accelerator")
        train_steps = dispatch.make_train_steps(
            dispatch.make_streams(0), run, mesh=mesh, num_images=NUM_IMAGES, is_streamed=False
        )
        images = jax.ShapeDtypeStruct((NUM_IMAGES, SIDE, SIDE, 1), jnp.uint8)
        exported = jax.export.export(train_steps, platforms=PLATFORMS)(
            runs.abstract_state(run), images, NUM_STEPS
        )
    assert exported.platforms == PLATFORMS
    num_arrays = len(jax.tree.leaves(runs.abstract_state(run)))
    return str(exported.mlir_module()), num_arrays


@pytest.mark.parametrize("name", FIELDS)
def test_the_host_is_never_called_and_every_array_of_the_state_is_donated(name):
    program, num_arrays = lower(name, "float32")
    called = set(re.findall(r'custom_call @"?([\w.$]+)"?|call_target_name = "([^"]+)"', program))
    assert {first or second for first, second in called} <= CALLS
    assert "callback" not in program and "infeed" not in program and "outfeed" not in program
    (signature,) = re.findall(r"func\.func public @main\((.*)", program)
    donated = signature.count("tf.aliasing_output") + signature.count("jax.buffer_donor")
    assert donated == num_arrays


def test_no_array_holds_all_pairs_of_pixels_for_every_image():
    for name in ("image_np.IFANP", "multiscale_np.MultiscaleNP"):
        shapes = helpers.list_array_shapes(lower(name, "float32")[0])
        assert max(map(math.prod, shapes)) < BATCH * PAIRS / 2
        if name == "image_np.IFANP":
            assert (SIDE * SIDE, SIDE * SIDE) in shapes  # one for the whole batch


@pytest.mark.parametrize("name", FIELDS)
def test_products_on_maps_are_in_bfloat16_where_asked(name):
    program, _ = lower(name, "bfloat16")
    operands = r" : \(tensor<([\dx]*)x(\w+)>, tensor<([\dx]*)x\w+>\)"
    sizes = dict.fromkeys(("bf16", "f32"), 0)
    for first, dtype, second in re.findall(r"stablehlo\.dot_general.*" + operands, program):
        sizes[dtype] += sum(math.prod(map(int, shape.split("x"))) for shape in (first, second))
    assert sizes["bf16"] > sizes["f32"]  # positions, kernels, heads and latents stay float32
    assert {dtype for _, dtype, _ in re.findall(r"stablehlo\.convolution.*" + operands, program)} <= {"bf16"}
    assert "bf16" not in lower(name, "float32")[0]
