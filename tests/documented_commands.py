"""Whether the commands of a page can be given: they are parsed by the real parser, and not run.

As a program it reads command lines (JSON, lists of words after `python -m MODULE`) and answers with what is
wrong.
"""

import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
MAIN, BENCHMARK = "ifanp_jax.main", "ifanp_jax.benchmark"
BENCHMARKS, RELEASE = "benchmarks", "benchmarks.release"
COMMANDS = ("holes", "collect", "peers", "protocols", "quality", "reliability", "roofline")
OTHERS = (  # of no flags of ours
    ". ", "export ", "kubectl apply", "peers/bin/pip install", "pyrefly check", "pytest", "python -m venv",
    "ruff ", "sha256sum -c", "sphinx-build ",
)  # fmt: skip
EXTRAS = re.compile(r"\[(\w+)\]$")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRA_NAMES = PROJECT["optional-dependencies"]


def split(block):
    """The commands of a block: lists of words, without comments; a backslash at the end goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    commands = []
    for line in words:
        commands.append([])
        for word in line:
            if word == "&&":
                commands.append([])
            else:
                commands[-1].append(word)
    return [command for command in commands if command]


def find_errors(commands):
    """What is wrong with each command, by its index; nothing where all can be given."""
    wrong, by_module = {}, {}
    for index, words in enumerate(commands):
        try:
            module, arguments = _find_module(words)
        except ValueError as error:
            wrong[index] = str(error)
            continue
        if module:
            by_module.setdefault(module, {})[index] = arguments
    for module, lines in by_module.items():
        wrong |= dict(zip(lines, _parse(module, list(lines.values())), strict=True))
    return {index: error for index, error in wrong.items() if error}


def _find_module(words):
    """The module of this package that a command starts, or None, and what the module is given."""
    first = words[0]
    if words[:2] == ["python", "-m"] and words[2] in (MAIN, BENCHMARK):
        return words[2], words[3:]
    if words[:3] == ["python", "-m", RELEASE]:
        return f"{RELEASE}.__main__", words[3:]
    if words[:3] == ["python", "-m", BENCHMARKS]:
        if words[3] not in COMMANDS:
            raise ValueError(f"{words[3]} is no command of the benchmarks")
        return f"{BENCHMARKS}.__main__", words[4:]
    if first == "ifanp-jax":
        return MAIN, words[1:]
    if first.startswith("launch/"):
        return _of_launcher(first, words[1:])
    if first == "sbatch":
        script = next((word for word in words if word.startswith("launch/")), "launch/missing")
        return _of_launcher(script, words[words.index(script) + 1 :])
    if first == "pip":
        extra = EXTRAS.search(words[-1])
        if words[1] != "install" or (extra and extra[1] not in EXTRA_NAMES):
            raise ValueError("no such extra")
        return None, []
    if not " ".join(words).startswith(OTHERS):
        raise ValueError("a command that no rule of this test knows")
    return None, []


def _of_launcher(script, arguments):
    if not (ROOT / script).is_file():
        raise ValueError(f"there is no {script}")
    if script.endswith("local_processes.sh"):
        int(arguments.pop(0))
    elif script.endswith("tpu_vm.sh"):
        if "--" not in arguments:
            return None, []
        arguments = arguments[arguments.index("--") + 1 :]
    elif not script.endswith(".sbatch"):
        return None, []
    return MAIN, arguments


def _parse(module, lines):
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.documented_commands", module],
        input=json.dumps(lines),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def _check():
    """What every command does first: the configuration holds together, and names a model with its fields."""
    from ifanp_jax import command_line, configuration, models
    from ifanp_jax.study import one_run

    config = command_line.get_config()
    if config is not None:
        configuration.prepare(config, given=command_line.get_overrides())
        if "study" in config:
            for name in config.study.models:
                models.get(one_run.config_of(config, name, 0).model, channels=3)
        else:
            models.get(config.model, channels=3)


def _parse_all(lines):
    """What is wrong with each line; "" for a good one."""
    from ifanp_jax import command_line
    from tests import forked

    found = [forked.run(lambda: command_line.run(_check), ["command", *line]) for line in lines]
    return [(error or f"exit status {status}") if status else "" for status, _, error in found]


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    if hasattr(module, "define_flags"):  # else they are there since the import
        module.define_flags()
    print(json.dumps(_parse_all(json.load(sys.stdin))))
