import importlib
import pathlib

import chex
import jax
import jax.numpy as jnp
import ml_collections
import pytest

from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.models import image_np
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import loop, optimizer, parameters

CONFIGS = sorted(path.stem for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_takes_one_training_step(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    side, channels = config.data.image_size or 8, config.data.channels or 1
    model = models.get(config.model, channels=channels)
    tx = optimizer.make_optimizer(config.train)
    mesh = device_mesh.make_mesh(devices=jax.devices()[:1])
    train_steps = loop.make_train_step(jax.random.key(1), config, model, tx, mesh=mesh, num_images=100)

    def start(key):
        return parameters.init_state(
            key, model, tx, (side, side, channels), has_ema=config.train.ema_decay > 0
        )

    images = jax.ShapeDtypeStruct((100, side, side, channels), jnp.uint8)
    before = jax.eval_shape(start, jax.random.key(2))
    after, metrics = jax.eval_shape(lambda *args: train_steps(*args, 1), before, images)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    chex.assert_shape(list(metrics.values()), (1,))


def test_get_sets_the_fields():
    config = ml_collections.ConfigDict({"name": "image_np.IFANP_GCA", "width": 16, "gca_heads": 2})
    assert models.get(config, channels=3) == image_np.IFANP_GCA(channels=3, width=16, gca_heads=2)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "image_np",
        "image_np.Unknown",
        "image_np.ENCODER_EXTRAS",
        "point_np.MaskedAttention",
        "unknown.IFNP",
    ],
)
def test_get_refuses_what_is_no_model(name):
    with pytest.raises(UserError, match=r"config\.model\.name is .*image_np\.IFANP"):
        models.get(ml_collections.ConfigDict({"name": name}), channels=1)


@pytest.mark.parametrize("field", ["widht", "channels", "parent"])
def test_get_refuses_an_unknown_field(field):
    with pytest.raises(UserError, match=rf"config\.model\.{field} is no field of image_np\.IFNP.*width"):
        models.get(ml_collections.ConfigDict({"name": "image_np.IFNP", field: 1}), channels=1)
