"""What `import ifanp_jax` offers."""

import importlib

import pytest

import ifanp_jax
from ifanp_jax.metrics import calibration
from tests import helpers


def test_the_documented_names():
    assert ifanp_jax.calibration is calibration
    assert all(hasattr(ifanp_jax, name) for name in ifanp_jax.__all__)
    for name in ("data.masks", "data.sources", "models.image_np", "models.point_np", "models.vae"):
        importlib.import_module(f"ifanp_jax.{name}")
    for name in ("modules.gca", "modules.lpa", "modules.encoder_decoder", "objectives", "metrics"):
        importlib.import_module(f"ifanp_jax.{name}")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ifanp_jax.nonsense


def test_the_import_is_cheap():
    code = "import sys, ifanp_jax; assert not {'jax', 'flax', 'numpy'} & set(sys.modules)"
    process = helpers.run_python("-c", code)
    assert process.returncode == 0, process.stderr
