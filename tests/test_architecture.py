"""The plan of the house: which room may import which, and how large its parts may be."""

import ast
import importlib
import pathlib
import pkgutil

import ifanp_jax
from tests.helpers import ROOT, run_python

FOUND = sorted(module.name for module in pkgutil.walk_packages(ifanp_jax.__path__, "ifanp_jax."))
# A module that is run defines flags of its own.
MODULES = ["ifanp_jax", *(name for name in FOUND if not name.endswith("__main__"))]
HEAVY = ("tensorflow", "tensorflow_datasets", "matplotlib", "cv2")


def imports_of(module_name, *, top_level_only=False):
    """Absolute names of what a module imports; `from a import b` gives a.b."""
    path = pathlib.Path(importlib.util.find_spec(module_name).origin)
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module_name} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


# From the ground up: a room may import those before its own, and its neighbours in a row where that is said.
LEVELS = (
    ("errors", "files", "memory", "version"),
    ("objectives", "metrics", "runtime", "data", "shipped"),
    ("classical", "modules"),
    ("models",),
    ("configuration", "inference"),
    ("training",),
    ("inpainters",),
    ("evaluation", "completion", "presets"),
    ("study",),
    ("web",),
    ("api", "command_line"),
    ("commands",),
    ("__init__", "main", "benchmark", "configs"),
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Steps are below the rest of their room.
ABOVE_STEPS = tuple(f"ifanp_jax.training.{name}" for name in ("loop", "dispatch", "feed", "log", "runs"))


def room_of(module_name):
    return module_name.split(".")[1] if "." in module_name else "__init__"


def test_imports_run_one_way():
    wrong = []
    for module_name in MODULES:
        room = room_of(module_name)
        for name in (name for name in imports_of(module_name) if name.startswith("ifanp_jax.")):
            other = room_of(name)
            if other in LEVEL_OF and other != room and room != "__init__":
                if LEVEL_OF[other] >= LEVEL_OF[room]:
                    wrong.append(f"{module_name} imports {name}")
            if module_name.startswith("ifanp_jax.training.steps") and name.startswith(ABOVE_STEPS):
                wrong.append(f"{module_name} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_the_registries_know_the_inpainters_and_by_name_alone():
    """Models and steps are found by strings; presets hold small forms, a study colours attention maps."""
    importers = {name for name in MODULES if any("inpainters" in other for other in imports_of(name))}
    assert {room_of(name) for name in importers} <= {"inpainters", "presets", "study"}


def test_every_room_has_its_level():
    assert {room_of(name) for name in MODULES} <= set(LEVEL_OF)


SOURCES = [path for folder in ("ifanp_jax", "configs", "tests") for path in (ROOT / folder).rglob("*.py")]


def test_no_file_is_longer_than_400_lines_and_no_function_than_60():
    long = []
    for path in SOURCES:
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 60:
                long.append(f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert not long, "\n".join(long)


def test_heavy_packages_are_imported_only_where_used():
    imported = {
        (module_name, name.split(".")[0])
        for module_name in MODULES
        for name in imports_of(module_name, top_level_only=True)
    }
    assert not [pair for pair in imported if pair[1] in HEAVY]


def loaded_by(code):
    """Which modules a new Python holds after some code."""
    result = run_python("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_the_whole_package_imports_without_heavy_packages():
    assert not set(HEAVY) & loaded_by(
        f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)"
    )


def test_the_command_line_answers_before_anything_large_is_imported():
    assert not {"jax", "numpy", "flax", *HEAVY} & loaded_by("import ifanp_jax.main")


def test_no_part_of_another_package_is_used_that_is_not_public():
    private = {
        (module_name, name)
        for module_name in MODULES
        for name in imports_of(module_name)
        if not name.startswith(("ifanp_jax.", "__future__."))
        and any(part.startswith("_") for part in name.split("."))
    }
    assert private == {("ifanp_jax.runtime.heartbeat", "jax._src.distributed")}


def test_a_picture_is_completed_without_what_only_trainings_need(tmp_path):
    from PIL import Image

    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    mask = Image.new("L", (28, 28), 255)
    mask.paste(0, (8, 8, 12, 12))
    mask.save(tmp_path / "m.png")
    words = ["complete", "--model=mnist28", "--num_samples=1", "--rounds=1", f"--input={tmp_path / 'a.png'}"]
    words += [f"--mask={tmp_path / 'm.png'}", f"--output={tmp_path / 'done'}"]
    loaded = loaded_by(
        f"import sys; sys.argv[1:] = {words!r}\nfrom ifanp_jax import main\ntry: main.run()\n"
        "except SystemExit as end: assert not end.code"
    )
    assert (tmp_path / "done/a_mean.png").is_file()
    assert not {"tensorflow", "tensorflow_datasets", "orbax", "matplotlib", "sklearn"} & loaded
