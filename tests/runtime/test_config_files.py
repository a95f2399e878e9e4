import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.runtime import config_files
from tests.helpers import ROOT


def test_shipped_configurations_are_those_of_the_folder():
    assert config_files.shipped_folder() == ROOT / "configs"
    assert {"default", "digits_ifanp", "study_mnist"} <= set(config_files.list_shipped())


def test_a_file_comes_before_a_shipped_name_and_keeps_its_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.resolve("digits:vae.VAE") == f"{ROOT / 'configs' / 'digits.py'}:vae.VAE"
    (tmp_path / "digits").write_text("")
    assert config_files.resolve("digits:vae.VAE") == "digits:vae.VAE"


@pytest.mark.parametrize("value", ["", "none", "digits.py", "__init__", "../configs/digits", ":digits"])
def test_what_is_neither_is_told(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is no file and no shipped configuration; give a path, or one of "):
        config_files.resolve(value)


def test_only_the_flag_of_the_configuration_is_changed():
    path = ROOT / "configs" / "digits.py"
    arguments = [
        "--mode=train",
        "--config",
        "digits",
        "--config.seed=1",
        "-config=digits:a",
        "--workdir",
        "b",
    ]
    expected = ["--mode=train", f"--config={path}", "--config.seed=1", f"-config={path}:a", "--workdir", "b"]
    assert list(config_files.resolve_flags(arguments)) == expected
