"""Where the training images live."""

import types

import numpy as np
import pytest

from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import feed
from tests import tiny


@pytest.mark.parametrize(("num_bytes", "expected"), [(4 * 1000, False), (4 * 1000 - 8, True)])
def test_images_are_streamed_where_they_exceed_their_share_of_memory(monkeypatch, num_bytes, expected):
    monkeypatch.setattr(device_mesh, "device_bytes", lambda device: num_bytes)
    mesh, images = device_mesh.make_mesh(), np.zeros((10, 10, 10, 1), np.uint8)
    assert feed.RESIDENT_SHARE == 0.25
    assert feed.must_stream(tiny.make_config(), images, mesh) is expected
    # A choice in the configuration wins.
    for placement in ("device", "stream"):
        config = tiny.make_config(**{"data.placement": placement})
        assert feed.must_stream(config, images, mesh) is (placement == "stream")


def test_devices_add_up_their_memory(monkeypatch):
    monkeypatch.setattr(device_mesh, "device_bytes", lambda device: 1000)
    mesh = types.SimpleNamespace(size=4, local_devices=[None])
    images = np.zeros((10, 10, 10, 1), np.uint8)
    assert not feed.must_stream(tiny.make_config(), images, mesh)
    mesh.size = 3
    assert feed.must_stream(tiny.make_config(), images, mesh)
