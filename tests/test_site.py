"""The documentation's site: it is built without a warning, and every public name has its place in it."""

import importlib.util
import os
import re
import subprocess
import sys
import zlib

import pytest

from tests import helpers
from tests.test_conventions import MEMBERS, MODULES

DOCS = helpers.ROOT / "docs"


def read_inventory(path):
    """Names of an `objects.inv`: four lines, then compressed text."""
    content = path.read_bytes()
    body = zlib.decompress(content.split(b"\n", 4)[4]).decode()
    return {line.split(" ")[0] for line in body.splitlines()}


def test_the_site_is_built_without_a_warning_and_lists_every_public_name(tmp_path):
    for name in ("sphinx", "myst_nb", "sphinx_book_theme", "jupytext", "latex2mathml"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    result = subprocess.run(
        [*command, DOCS, tmp_path / "site"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "EXECUTE_EXAMPLES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    equations = (tmp_path / "site" / "models.html").read_text()
    assert "<math" in equations  # they show without the network
    assert not re.search("<script[^>]*mathjax", equations, re.IGNORECASE)
    names = read_inventory(tmp_path / "site" / "objects.inv")
    members = [name for name in MEMBERS if not name.endswith(".__init__")]
    assert not set(MODULES) - names
    assert not set(members) - names


DOCSTRING = """Draws *lines*, as `draw_line` does; see x_ and |y|.

y  = a x + b
yy = c

Args:
  path: of the PNG,
    or of a folder.
  *lines: of pixels.

Returns:
  float (H, W).

Raises:
  UserError: where it cannot.
"""
RST = r"""Draws \*lines\*, as \ ``draw_line``\  does; see x\_ and \|y\|.

::

    y  = a x + b
    yy = c

:param path: of the PNG, or of a folder.
:param \*lines: of pixels.

:returns: float (H, W).

:raises UserError: where it cannot.
"""


def test_docstrings_are_read_as_plain_text():
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    docstrings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docstrings)
    assert "\n".join(docstrings.to_rst(DOCSTRING.splitlines())).split() == RST.split()


def test_every_page_has_its_place():
    index = (DOCS / "index.md").read_text()
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", index, re.MULTILINE | re.DOTALL)
    entries = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"} | {"experiments/index"}
    examples = {f"examples/{path.stem}" for path in (helpers.ROOT / "examples").glob("*.py")}
    assert entries == pages | examples
