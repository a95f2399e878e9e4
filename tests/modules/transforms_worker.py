"""What `test_transforms.py` compares: gradients of layers under JAX's transformations, on 4 devices.

python -m tests.modules.transforms_worker OUTPUT writes {layer: {transformation: largest difference}},
after it has lowered all of that for models, too.
"""

import json
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ifanp_jax.models import point_np
from ifanp_jax.modules import encoder_decoder, gca, grid, kernel_interpolation, lpa, squeeze_excitation, unet
from ifanp_jax.modules.fast import blocked_attention, conv3x3
from tests import helpers
from tests.models.table import make_model

NUM_DEVICES, B, H, W, D = 4, 8, 4, 6, 4
POSITIONS = grid.coordinates(H, W)
ROWS = PartitionSpec("data")


def layer(module, *names, method="__call__"):
    """A case: `apply(variables, rows)` of a layer on some of the rows, and its initial variables."""

    def call(rows):
        known = rows | {"positions": POSITIONS, "points": rows["map"].reshape(-1, H * W, D)}
        known |= {"observed": rows["mask"].reshape(-1, H * W), "z": rows["z"][None]}
        return [known[name] for name in names]

    def apply(variables, rows):
        return module.apply(variables, *call(rows), method=method)

    return apply, lambda key, rows: module.init(key, *call(rows), method=method)


def model(name, **fields):
    """A case: the terms of a model at test time, whose noise no split of the batch changes."""
    made, call = make_model(name, **fields), {"train": False, "num_samples": 2}

    def apply(variables, rows):
        rngs = {"sample": jax.random.key(3)}
        terms = made.apply(variables, rows["image"], rows["mask"], rngs=rngs, **call)
        return [x for x in (terms.reconstruction, terms.kl) if x is not None]

    def init(key, rows):
        return made.init({"params": key, "sample": key}, rows["image"], rows["mask"], **call)

    return apply, init


# Compared number by number.
LAYERS = {
    "ConvEncoder": layer(encoder_decoder.ConvEncoder(D, 1), "map"),
    "GlobalCrossAttention": layer(gca.GlobalCrossAttention(D, 2), "map", "mask", "positions"),
    "MaskedAttention": layer(point_np.MaskedAttention(D, 2), "points", "observed"),
    "KernelInterpolation": layer(kernel_interpolation.KernelInterpolation(), "image", "mask"),
    "LocalPoolingAggregation": layer(lpa.LocalPoolingAggregation(learned_scale=True), "map"),
    "SqueezeExcitation": layer(squeeze_excitation.SqueezeExcitation(2), "map"),
}
# Made of those, and lowered alone.
COMPOSED = {
    "DeconvDecoder": layer(encoder_decoder.DeconvDecoder(D, 1, 2), "z", "map", "positions"),
    "UNet": layer(unet.UNet((4, 6), (1, 1), (1,)), "map"),
    "IFANP": model("image_np.IFANP"),
    "MultiscaleNP": model("multiscale_np.MultiscaleNP", latent_dim=2),
    "ANP": model("point_np.ANP"),
    "MaskedVAE": model("vae.MaskedVAE"),
}
BY_PMAP = ("ConvEncoder", "GlobalCrossAttention")


def make_rows():
    """What the layers and models of all cases take, image by image."""
    generator = np.random.default_rng(0)
    return {
        "image": generator.random((B, H, W, 1), np.float32),
        "mask": generator.random((B, H, W, 1)) < 0.5,
        "map": generator.normal(size=(B, H, W, D)).astype(np.float32),
        "z": generator.normal(size=(B, 3)).astype(np.float32),
    }


def make_mesh(axis_type):
    return jax.make_mesh((NUM_DEVICES,), ("data",), axis_types=(axis_type,))


def make_gradient(apply):
    """A loss and its gradient; it is a sum over images, so that gradients of parts of a batch add up."""

    def loss(variables, rows):
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(apply(variables, rows)))

    return loss, jax.grad(loss)


def make_comparison(apply):
    """Returns `compare(variables, rows) -> (the gradient, {transformation: (found, expected)})`."""
    loss, gradient = make_gradient(apply)

    def on_devices(variables, rows, check_vma):
        def by_part(variables, rows):
            found = gradient(variables, rows)
            return found if check_vma else jax.lax.psum(found, "data")

        specs = {"in_specs": (PartitionSpec(), ROWS), "out_specs": PartitionSpec(), "check_vma": check_vma}
        return jax.shard_map(by_part, mesh=make_mesh(AxisType.Auto), **specs)(variables, rows)

    def for_any_batch(variables, rows):
        (b,) = jax.export.symbolic_shape("b")
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), rows)
        return jax.export.export(jax.jit(gradient))(variables, shapes).call(variables, rows)

    def compare(variables, rows):
        along = jax.tree.map(jnp.ones_like, variables)

        def slope(variables):
            return jax.jvp(lambda v: loss(v, rows), (variables,), (along,))[1]

        def add_up(tree):
            return sum(x.sum() for x in jax.tree.leaves(tree))

        forward = jax.jvp(slope, (variables,), (along,))  # slope and curvature, without a transpose
        true, bend = jax.jvp(lambda v: gradient(v, rows), (variables,), (along,))
        return true, {
            "jvp": (forward[0], add_up(true)),
            "hessian": (forward[1], add_up(bend)),
            "shard_map": (on_devices(variables, rows, False), true),
            "shard_map with check_vma": (on_devices(variables, rows, True), true),
            "export": (for_any_batch(variables, rows), true),
        }

    return compare


def by_vmap(apply, variables, rows):
    """The sum of each image's gradient."""
    _, gradient = make_gradient(apply)
    each = jax.vmap(lambda row: gradient(variables, jax.tree.map(lambda x: x[None], row)))(rows)
    return jax.tree.map(lambda x: x.sum(axis=0), each)


def on_explicit_mesh(apply, variables, rows, *, has_convolutions):
    """Flax's own convolutions have no gradient under explicit axes; `auto_axes` is JAX's way around."""
    mesh, (_, gradient) = make_mesh(AxisType.Explicit), make_gradient(apply)
    if has_convolutions:
        gradient = jax.sharding.auto_axes(gradient, axes="data", out_sharding=PartitionSpec())
    with jax.set_mesh(mesh):
        return jax.jit(gradient)(variables, jax.device_put(rows, NamedSharding(mesh, ROWS)))


def by_pmap(apply, variables, rows, num_devices):
    """As a user would write it; each device finds the sum of all."""
    _, gradient = make_gradient(apply)
    rows = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), rows)
    found = jax.pmap(
        lambda variables, rows: jax.lax.psum(gradient(variables, rows), "data"),
        axis_name="data",
        in_axes=(None, 0),
        devices=jax.devices()[:num_devices],
    )(variables, rows)
    return jax.tree.map(lambda x: x[-1], found)


def difference(found, expected):
    """The largest, in parts of the largest value."""
    pairs = zip(*map(jax.tree.leaves, (found, expected)), strict=True)
    return max(float(np.max(np.abs(x - y)) / max(1, np.max(np.abs(y)))) for x, y in pairs)


def measure(name):
    """{transformation: largest difference} of a layer."""
    apply, init = LAYERS[name]
    rows = make_rows()
    variables = helpers.draw_variables(jax.eval_shape(init, jax.random.key(0), rows))
    true, compared = jax.device_get(jax.jit(make_comparison(apply))(variables, rows))
    found = {transformation: difference(*pair) for transformation, pair in compared.items()}
    # A program of its own: XLA cuts a grouped convolution wrongly where several devices run the program.
    summed = jax.jit(by_vmap, static_argnums=0)(apply, variables, rows)
    found["vmap"] = difference(jax.device_get(summed), true)
    explicit = on_explicit_mesh(apply, variables, rows, has_convolutions=name == "ConvEncoder")
    found["explicit axes"] = difference(jax.device_get(explicit), true)
    for count in (2, NUM_DEVICES) if name in BY_PMAP else ():
        summed = by_pmap(apply, variables, rows, count)
        found[f"pmap over {count} devices"] = difference(jax.device_get(summed), true)
    return found


def lower(name):
    """Lowers every transformation of what is composed of layers."""
    apply, init = COMPOSED[name]
    rows = make_rows()
    shapes = jax.eval_shape(init, jax.random.key(0), rows)
    jax.jit(make_comparison(apply)).lower(shapes, rows)
    jax.jit(by_vmap, static_argnums=0).lower(apply, shapes, rows)


if __name__ == "__main__":
    assert jax.device_count() == NUM_DEVICES
    # So small that a batch is cut in blocks.
    conv3x3.BLOCK_BYTES, conv3x3.MAX_BLOCKS, gca.CPU_VALUES, blocked_attention.CPU_ENTRIES = 1, 2, 1, 1
    found = {name: measure(name) for name in LAYERS}
    for name in COMPOSED:
        lower(name)
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
