"""The package as a wheel, in an empty virtual environment and an empty folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

from tests import helpers, tiny

SOURCES = ("LICENSE", "README.md", "configs", "ifanp_jax", "pyproject.toml", "setup.py")


def run(*command, cwd, **environment):
    """Runs a command that finds nothing of this clone; its output as text."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since setuptools leaves files beside its sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = helpers.ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    built = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--quiet", f"--wheel-dir={built}")
    result = run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=copy)
    assert result.returncode == 0, result.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory):
    """The folder of commands of an environment with the wheel; other packages are those of the tests."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    options = ("--no-deps", "--no-index", "--quiet", "--no-warn-script-location")
    command = (sys.executable, "-m", "pip", "--python", python, "install", *options, wheel)
    result = run(*command, cwd=environment)
    assert result.returncode == 0, result.stderr
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = pathlib.Path(run(python, "-c", code, cwd=environment).stdout.strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (folder / "others.pth").write_text("\n".join(sorted(paths)) + "\n")
    return python.parent


def test_the_main_job_runs_in_an_empty_folder(binaries, tmp_path):
    little = {"evaluate.fractions": "(0.2,)", "evaluate.halves": False, "train.validate_every": 0}
    fields = tiny.flags(**little, **{"evaluate.figure_images": 0, "evaluate.classical_images": 0})
    result = run(binaries / "ifanp-jax", "--config=digits_ifanp", "--workdir=run", *fields, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "random 20%" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "evaluation.md").is_file()


@pytest.mark.parametrize("command", [("ifanp-jax",), ("python", "-m", "ifanp_jax.main")])
def test_help_lists_the_flags(binaries, tmp_path, command):
    name, *arguments = command
    result = run(binaries / name, *arguments, "--help", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "--workdir" in result.stdout and "--config" in result.stdout


def test_shipped_configurations_are_listed_and_can_be_imported(binaries, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ifanp_jax import presets\n\n\ndef get_config():\n    return presets.default()\n"
    )
    result = run(binaries / "ifanp-jax", "--config=other", "--workdir=run", cwd=tmp_path)
    assert "is no file and no shipped configuration" in result.stderr and "digits_ifanp" in result.stderr
    result = run(binaries / "ifanp-jax", "--config=mine.py", "--config.nope=1", cwd=tmp_path)
    assert "config.nope is no field of the configuration; config has data, " in result.stderr
    code = "from ifanp_jax.configs import digits_ifanp as c; import ifanp_jax; print(ifanp_jax.__file__)\n"
    code += "print(c.get_config().mask.kind)"
    page = "import importlib.resources as r; print(r.files('ifanp_jax.web').joinpath('page.html').is_file())"
    assert run(binaries / "python", "-c", page, cwd=tmp_path).stdout.strip() == "True"
    shipped = {path.name for path in (helpers.ROOT / "ifanp_jax" / "shipped").glob("*[!.py]")}
    names = "import ifanp_jax.shipped as p; print(*(path.name for path in p.FOLDER.iterdir()))"
    assert shipped <= set(run(binaries / "python", "-c", names, cwd=tmp_path).stdout.split())
    file, kind = run(binaries / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert pathlib.Path(file).is_relative_to(binaries.parent) and kind == "mixed"
