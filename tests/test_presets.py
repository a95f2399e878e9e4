"""Configurations by name and by file."""

import pytest

from ifanp_jax import presets
from ifanp_jax.errors import UserError
from tests.helpers import ROOT, run_main

MINE = """from ifanp_jax import presets


def get_config(model="vae.VAE"):
    return presets.default(model=model)
"""


def test_shipped_configurations_are_those_of_the_folder():
    assert presets.shipped_folder() == ROOT / "configs"
    assert {"default", "digits_ifanp", "study_mnist"} <= set(presets.list_shipped())


def test_a_file_comes_before_a_shipped_name_and_keeps_its_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert presets.load("digits:vae.VAE").train.num_steps == 1500
    assert presets.load("digits:vae.VAE").model.name == "vae.VAE"
    (tmp_path / "digits").write_text(MINE)
    assert presets.load("digits").model.name == "vae.VAE"
    assert presets.load("digits:point_np.NP").model.name == "point_np.NP"
    assert presets.load("digits").train.ema_decay == 0  # the default's


@pytest.mark.parametrize("value", ["", "none", "digits.py", "__init__", "../configs/digits", ":digits"])
def test_what_is_neither_is_told(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no file and no shipped configuration.* digits_ifanp"):
        presets.load(value)


@pytest.mark.parametrize(
    ("body", "fact"),
    [
        ("import no_such_module", "no_such_module"),
        ("1 / 0", "division by zero"),
        ("raise SystemExit(3)", "3"),
        ("return {}", "ConfigDict"),
        ("config = presets.default()\n    config.trian.x = 1", 'mean "train"'),
        ("config = presets.default()\n    config.seed = 'one'", "'seed'"),
    ],
)
def test_a_file_that_makes_no_configuration_is_one_sentence(tmp_path, body, fact):
    path = tmp_path / "mine.py"
    path.write_text(f"from ifanp_jax import presets\n\n\ndef get_config():\n    {body}\n")
    with pytest.raises(UserError) as caught:
        presets.load(str(path))
    message = str(caught.value)
    assert str(path) in message and fact in message and len(message.splitlines()) == 1


def test_a_file_runs_once_per_command(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n{MINE}")
    result = run_main(f"--config={path}", "--config.train.nope=1", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 1 and "config.train.nope" in result.stderr
    assert (tmp_path / "count").read_text() == "x"
