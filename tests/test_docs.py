"""The documentation: its commands parse, its Python names exist, its links lead somewhere."""

import ast
import importlib
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import yaml

import ifanp_jax
from configs import default
from ifanp_jax import configuration, models
from tests import documented_commands as commands

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for folder in ("", "docs/", "docs/experiments/", "ifanp_jax/shipped/")
    for page in ROOT.glob(f"{folder}*.md")
}
MAX_README_LINES = 101
MAX_SENTENCE_WORDS = 30
FENCE = re.compile(r"^```(\w*|\{\w+\})\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|md|sh|sbatch|yaml|png|cff)")

EXAMPLES = ("ifanp_jax/models/average.py",)


def blocks(page, *languages):
    """The contents of the fenced blocks of a page that have one of these languages."""
    return [content for language, content in FENCE.findall(PAGES[page]) if language in languages]


def prose(page):
    """A page without its fenced blocks."""
    return FENCE.sub("", PAGES[page])


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) < MAX_README_LINES


WRONG = """
python -m ifanp_jax.main --config=configs/missing.py --workdir=runs/digits
python -m ifanp_jax.main --config=configs/digits_ifanp.py --config.train.steps=3
python -m ifanp_jax.main --config=configs/digits.py:point_np.MISSING
ifanp-jax --config=digits_ifanp --wrok_dir=runs/digits
python -m benchmarks reliabilty --config=digits_ifanp
launch/missing.sh && pip install -e '.[missing]'
"""


def test_every_command_parses_and_wrong_ones_do_not():
    shell = "\n".join(block for page in PAGES for block in blocks(page, "", "bash"))
    good = commands.split(shell.replace("average.Average", "point_np.CNP"))  # a model that a page has one add
    wrong = commands.split(WRONG)
    assert len(good) > 30
    errors = commands.find_errors(good + wrong)
    assert not [(" ".join(good[index]), error) for index, error in errors.items() if index < len(good)]
    assert len(errors) == len(wrong) == 7


def test_python_of_the_pages_compiles_and_its_names_exist():
    missing = []
    for page, block in [(one, block) for one in PAGES for block in blocks(one, "python")]:
        names = {}
        for path, bound in (pair for node in ast.walk(ast.parse(block)) for pair in imported(node)):
            try:
                names[bound] = find(path)
            except ImportError:
                missing.append(f"{page}: {path}")
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in names and not hasattr(names[node.value.id], node.attr):
                    missing.append(f"{page}: {node.value.id}.{node.attr}")
    assert not missing, "\n".join(missing)


def imported(node):
    """Yields (dotted path, bound name) of what an import statement takes from this package."""
    if isinstance(node, ast.Import):
        pairs = [(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        pairs = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
    else:
        return
    yield from ((path, bound) for path, bound in pairs if path.partition(".")[0] in ("ifanp_jax", "configs"))


def find(path):
    """The module or the public object of a module that a dotted path names."""
    if importlib.util.find_spec(path.rpartition(".")[0] or path) and not path.count("."):
        return importlib.import_module(path)
    module, _, name = path.rpartition(".")
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(path)


def leads_somewhere(page, target):
    """Whether a link of a page has a file, and that its heading."""
    path, _, anchor = target.partition("#")
    path = (ROOT / page).parent / path if path else ROOT / page
    if not (path.exists() and anchor):
        return path.exists()
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_links_and_images_lead_somewhere():
    links = [(page, target) for page in PAGES for target in LINK.findall(prose(page)) if "://" not in target]
    assert len(links) > 50
    assert not [link for link in links if not leads_somewhere(*link)]


def test_files_and_fields_that_the_pages_name_exist():
    fields = configuration.flatten(default.get_config())
    groups = ("train", "evaluate", "data", "mask", "objective")
    missing = []
    for page, code in [(one, code) for one in PAGES for code in CODE.findall(prose(one))]:
        path = code.partition(":")[0]
        roots = (ROOT, ROOT / "ifanp_jax", (ROOT / page).parent)
        if is_path_of_a_clone(path) and not any((root / path).exists() for root in roots):
            missing.append(f"{page}: {code}")
        field = re.fullmatch(r"(?:--)?(?:config\.)?((\w+)\.\w+)(=.*)?", code)
        if field and field[2] in groups and not PATH.fullmatch(code) and not code.endswith(".npy"):
            if not any(name == field[1] or name.startswith(f"{field[1]}.") for name in fields):
                missing.append(f"{page}: {code}")
    assert not missing, "\n".join(missing)


def is_path_of_a_clone(code):
    """Whether it is a path that must exist, and not an example or one that a command makes."""
    is_example = code in EXAMPLES or re.search("[A-Z]{4}", code)
    return "/" in code and PATH.fullmatch(code) is not None and not is_example


def test_sentences_are_short():
    long = []
    for page in PAGES:
        lines = [line for line in prose(page).splitlines() if not line.startswith(("|", "#", "!"))]
        text = re.sub(r"\n(\d+\. |- )", "\n\n", CODE.sub("code", LINK.sub("]", "\n".join(lines))))
        sentences = [re.split(r"(?<=[.!?:;])[\s*]", paragraph) for paragraph in re.split(r"\n\s*\n", text)]
        every = (one for paragraph in sentences for one in paragraph)
        long += [f"{page}: {one}" for one in every if len(one.split()) > MAX_SENTENCE_WORDS]
    assert not long, "\n".join(long)


def test_the_model_of_the_documentation_is_one():
    code = next(block for block in blocks("docs/adding_a_model.md", "python") if "class Average" in block)
    written = {"__name__": "average"}
    exec(compile(code, "average.py", "exec"), written)
    model = written["Average"](channels=3)
    image, mask, key = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 8, 8, 1), bool), jax.random.key(0)
    variables = model.init({"params": key, "sample": key}, image, mask, train=True)
    terms = model.apply(variables, image, mask, train=True)
    assert terms.reconstruction.shape == (2,)
    assert terms.kl is None
    completion = model.apply(variables, image, mask, num_samples=4, method="complete")
    assert completion.samples.shape == completion.scale.shape == (4, 2, 8, 8, 3)


def test_the_readme_lists_the_models_that_there_are():
    section = PAGES["README.md"].partition("## Models")[2].partition("\n## ")[0]
    listed = [name for name in CODE.findall(section) if re.fullmatch(r"\w+_np\.\w+|\w+\.[A-Z]\w+", name)]
    assert sorted(listed) == sorted(models.list_models())


def test_the_package_can_be_cited():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == ifanp_jax.__version__
    assert citation["license"] == "Apache-2.0"
