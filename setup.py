"""What pyproject.toml cannot say: configs/ is installed as ifanp_jax.configs, and links are absolute."""

import pathlib
import re
import tomllib

import setuptools

HERE = pathlib.Path(__file__).parent
SOURCE = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["urls"]["Source"]


def make_absolute(readme: str) -> str:
    """Pictures and pages by their address in the repository, so that an index page shows them too."""
    readme = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\1{SOURCE}/raw/main/", readme)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!https?:|#)", rf"\1{SOURCE}/blob/main/", readme)


setuptools.setup(
    packages=[*setuptools.find_packages(include=["ifanp_jax", "ifanp_jax.*"]), "ifanp_jax.configs"],
    package_dir={"ifanp_jax.configs": "configs"},
    long_description=make_absolute((HERE / "README.md").read_text()),
    long_description_content_type="text/markdown",
)
