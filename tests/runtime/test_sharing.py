"""Devices share evaluations and tiles, and change no number but in rounding."""

import jax
import numpy as np
import pytest

from ifanp_jax.completion.limits import Limits
from ifanp_jax.completion.tile_model import TileModel
from ifanp_jax.runtime import device_mesh
from tests import helpers, tiny
from tests.runtime import sharing_worker


@pytest.fixture(scope="module")
def by_several(tmp_path_factory):
    path = tmp_path_factory.mktemp("sharing") / "values.npz"
    flags = f"--xla_force_host_platform_device_count={sharing_worker.NUM_DEVICES}"
    result = helpers.run_python("-m", "tests.runtime.sharing_worker", path, XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr
    return dict(np.load(path))


def test_several_devices_find_what_one_finds(by_several):
    by_one = sharing_worker.measure()
    assert by_one.keys() == by_several.keys() and len(by_one) > 30
    for name, value in by_one.items():
        np.testing.assert_allclose(by_several[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(("num_bytes", "count"), [(0, 3), (1, 1), (2.5, 2)])
def test_tiles_are_shared_by_as_many_devices_as_have_the_memory(num_bytes, count, monkeypatch):
    model = tiny.make_model("multiscale_np.MultiscaleNP", channels=3, latent_dim=0)
    limits = Limits(tile_sides=(32,), num_bytes=int(num_bytes * model.completion_bytes((32, 32))))
    taken = []
    monkeypatch.setattr(jax, "local_devices", lambda **_: 3 * jax.devices())
    monkeypatch.setattr(device_mesh, "make_mesh", lambda devices: taken.append(len(devices)))
    monkeypatch.setattr(device_mesh, "replicated", lambda mesh: None)
    TileModel.make(model, {}, limits)
    assert taken == [count]
