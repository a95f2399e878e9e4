import os
import stat
import subprocess
import sys

import jax
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.runtime import compilation_cache
from tests.helpers import ROOT

OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def restored_options():
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_made_for_its_user_alone(tmp_path):
    path = tmp_path / "parent" / "cache"
    compilation_cache.enable(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert jax.config.jax_compilation_cache_dir == str(path)


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path):
    (tmp_path / "old_entry").write_text("kept")
    tmp_path.chmod(0o755)  # others may read
    compilation_cache.enable(tmp_path)
    assert (tmp_path / "old_entry").read_text() == "kept"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_tilde_and_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    compilation_cache.enable("~/cache")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    compilation_cache.enable("other")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "other")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    tmp_path.chmod(mode)
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(UserError, match="writable by other users"):
        compilation_cache.enable(tmp_path)
    assert jax.config.jax_compilation_cache_dir == before


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UserError, match="belongs to"):
        compilation_cache.enable(tmp_path)


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        compilation_cache.enable(tmp_path / name)


# Layers take long enough to compile that they are kept; prints how many programs were found.
NUM_LAYERS = 150
START = """
import sys
import jax, jax.numpy as jnp
from ifanp_jax.runtime import compilation_cache
compilation_cache.enable(sys.argv[1])
hits = []
jax.monitoring.register_event_listener(
    lambda event, **_: hits.append(event) if event == "/jax/compilation_cache/cache_hits" else None
)
def function(x):
    for index in range(int(sys.argv[2])):
        x = jnp.sin(x @ x + index)
    return x
jax.jit(function)(jnp.ones((8, 8)))
print(len(hits))
"""


def test_a_second_start_finds_what_the_first_compiled(tmp_path):
    def start():
        result = subprocess.run(
            [sys.executable, "-c", START, str(tmp_path / "cache"), str(NUM_LAYERS)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert result.returncode == 0, result.stderr
        return int(result.stdout), {path.name for path in (tmp_path / "cache").iterdir()}

    hits, entries = start()
    assert hits == 0 and entries
    hits, entries_later = start()
    assert hits > 0 and entries_later == entries
