"""Devices share evaluations and tiles, and change no number but in rounding."""

import re

import jax
import numpy as np
import pytest

from ifanp_jax.inference.sizes import Limits
from ifanp_jax.inference.tiling import TileModel
from ifanp_jax.runtime import device_mesh
from tests import helpers, tiny
from tests.runtime import sharing_worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What several devices found, and the programs that they ran."""
    folder = tmp_path_factory.mktemp("sharing")
    flags = f"--xla_force_host_platform_device_count={sharing_worker.NUM_DEVICES}"
    flags += f" --xla_dump_to={folder} --xla_dump_hlo_as_text"
    environment = {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    result = helpers.run_python("-m", "tests.runtime.sharing_worker", folder / "values.npz", **environment)
    assert result.returncode == 0, result.stderr
    return folder


def test_several_devices_find_what_one_finds(folder):
    by_one, by_several = sharing_worker.measure(), dict(np.load(folder / "values.npz"))
    assert by_one.keys() == by_several.keys() and len(by_one) > 25
    for name, value in by_one.items():
        np.testing.assert_allclose(by_several[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_devices_meet_for_gradients_and_updates_alone(folder):
    programs = list(folder.glob("*after_optimizations.txt"))
    meeting = re.compile(r".* (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\(.*")
    lines = {path.name.split(".")[1]: meeting.findall(path.read_text()) for path in programs}
    found = {name: text for name, text in lines.items() if text}
    assert found.keys() == {"jit_update_fn", "jit_find_gradient", "jit_attend"}
    # Of attention, the gradient of the parameters or of what was made of positions, not of all pairs.
    assert "[16,2]" in str(found["jit_attend"]) and "[16,16]" not in str(found["jit_attend"])
    assert any("evaluate_batch" in path.name for path in programs)


@pytest.mark.parametrize(("num_bytes", "count"), [(0, 3), (1, 1), (2.5, 2)])
def test_tiles_are_shared_by_as_many_devices_as_have_the_memory(num_bytes, count, monkeypatch):
    model = tiny.make_model("multiscale_np.MultiscaleNP", channels=3, latent_dim=0)
    limits = Limits(tile_sides=(32,), num_bytes=int(num_bytes * model.completion_bytes((32, 32))))
    taken = []
    monkeypatch.setattr(jax, "local_devices", lambda **_: 3 * jax.devices())
    monkeypatch.setattr(device_mesh, "make_mesh", lambda devices: taken.append(len(devices)))
    TileModel.make(model, {}, limits)
    assert taken == [count]
