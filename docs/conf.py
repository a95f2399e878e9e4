"""The documentation's site: `sphinx-build -W docs SITE`.

The pages are those of this folder. The reference of every module, and the examples as pages, are written
into `docs/reference` and `docs/examples` when the site is built. EXECUTE_EXAMPLES=1 also runs the examples,
so that their pages show their pictures; it takes the shipped models.
"""

import os
import pathlib
import pkgutil
import shutil
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import docstrings
import jupytext
from docutils import nodes
from latex2mathml import converter

import ifanp_jax

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}

project = "ifanp_jax"
author = "The ifanp_jax authors"
release = ifanp_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
highlight_language = "none"
html_theme = "sphinx_book_theme"
html_title = "ifanp_jax"
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
html_copy_source = False
html_math_renderer = "mathml"  # browsers draw it by themselves; MathJax would come from the network
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force" if os.environ.get("EXECUTE_EXAMPLES") else "off"
nb_execution_raise_on_error = True
nb_execution_timeout = 900
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    "member-order": "bysource",
    "ignore-module-all": True,
    "show-inheritance": False,
}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True


def list_modules() -> list[str]:
    """Names of all modules that have a reference; a module that is run defines flags, and has none."""
    found = pkgutil.walk_packages(ifanp_jax.__path__, "ifanp_jax.")
    return ["ifanp_jax", *(one.name for one in found if not one.name.endswith("__main__"))]


def write_reference(folder: pathlib.Path) -> None:
    """Writes a page for each folder of the package, and one for the modules beside them.

    Args:
      folder: that is emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    modules, rooms = list_modules(), {}
    for module in modules:
        parts = module.split(".")
        is_room = len(parts) > 1 and any(name.startswith(f"{parts[0]}.{parts[1]}.") for name in modules)
        rooms.setdefault(parts[1] if is_room else "ifanp_jax", []).append(module)
    for room, members in rooms.items():
        lines = [room, "=" * len(room), ""]
        for module in members:
            lines += [module, "-" * len(module), "", f".. automodule:: {module}", ""]
        (folder / f"{room}.rst").write_text("\n".join(lines))


def write_examples(folder: pathlib.Path) -> None:
    """Writes the examples as notebooks.

    Args:
      folder: that is emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in (HERE.parent / "examples").glob("*.py"):
        notebook = jupytext.read(path)
        notebook.metadata["kernelspec"] = KERNEL
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")


def write_inline_math(translator, node):
    """Writes an equation in a line as MathML."""
    translator.body.append(converter.convert(node.astext()))
    raise nodes.SkipNode


def write_block_math(translator, node):
    """Writes an equation of its own as MathML, in a box that scrolls on a narrow screen."""
    equation = converter.convert(node.astext(), display="block")
    translator.body.append(f'<div class="math" style="overflow-x: auto">{equation}</div>')
    raise nodes.SkipNode


def setup(app):
    """Writes the pages that are made, and reads docstrings as they are written in this package."""
    write_reference(HERE / "reference")
    write_examples(HERE / "examples")

    def process(app, what, name, obj, options, lines):
        lines[:] = docstrings.to_rst(lines)

    def give_title(app, name, content):
        if name.startswith("experiments/study_"):  # written by a study, which gives its tables no heading
            content[0] = f"---\norphan: true\n---\n# {name.partition('/')[0]}\n\n{content[0]}"

    app.add_html_math_renderer("mathml", (write_inline_math, None), (write_block_math, None))
    app.connect("autodoc-process-docstring", process)
    app.connect("source-read", give_title)
