"""Layers and models are plain functions to JAX: each transformation of them is right, on any mesh."""

import json

import pytest

from tests import helpers
from tests.modules import transforms_worker

TRANSFORMATIONS = (
    "vmap",
    "jvp",
    "hessian",
    "shard_map",
    "shard_map with check_vma",
    "export",
    "explicit axes",
    "pmap over 2 devices",
    "pmap over 4 devices",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process with 4 devices found: {layer: {transformation: largest difference}}."""
    path = tmp_path_factory.mktemp("transforms") / "found.json"
    flags = f"--xla_force_host_platform_device_count={transforms_worker.NUM_DEVICES}"
    result = helpers.run_python("-m", "tests.modules.transforms_worker", path, XLA_FLAGS=flags)
    assert result.returncode == 0, result.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_the_gradient_is_the_same(found, transformation):
    differences = {layer: row[transformation] for layer, row in found.items() if transformation in row}
    assert len(differences) == (2 if "pmap" in transformation else len(transforms_worker.LAYERS))
    assert max(differences.values()) < 1e-5, differences
