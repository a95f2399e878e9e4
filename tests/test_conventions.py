"""The rules of the code base, checked over the whole package."""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re

import chex
import flax.linen as nn
import jax
import numpy as np

import ifanp_jax

ROOT = pathlib.Path(__file__).parents[1]
FOUND = sorted(module.name for module in pkgutil.walk_packages(ifanp_jax.__path__, "ifanp_jax."))
# A module that is run defines flags of its own.
MODULES = ["ifanp_jax", *(name for name in FOUND if not name.endswith("__main__"))]


def public_members(module_name):
    """Yields (name, object) of what a module itself defines: functions, classes and their methods."""
    module = importlib.import_module(module_name)
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if inspect.isfunction(value):
            yield f"{module_name}.{name}", value
        elif inspect.isclass(value):
            yield f"{module_name}.{name}", value
            for method_name, method in vars(value).items():
                method = getattr(method, "__func__", method)
                is_written = inspect.isfunction(method) and method.__qualname__.startswith(
                    value.__qualname__ + "."
                )
                if is_written and (
                    method_name in ("__init__", "__call__") or not method_name.startswith("_")
                ):
                    if not is_generated(value, method_name):
                        yield f"{module_name}.{name}.{method_name}", method


def is_generated(cls, method_name):
    """Whether a dataclass or Flax made the method: its parameters are the fields."""
    has_fields = dataclasses.is_dataclass(cls) or issubclass(cls, nn.Module)
    return has_fields and method_name in ("__init__", "replace")


MEMBERS = dict(member for module in MODULES for member in public_members(module))
FUNCTIONS = {name: member for name, member in MEMBERS.items() if not inspect.isclass(member)}


def parameters_of(function):
    parameters = list(inspect.signature(inspect.unwrap(function)).parameters.values())
    return [parameter for parameter in parameters if parameter.name not in ("self", "cls")]


def offenders(is_bad):
    """The parameters `is_bad(position, parameter, function)` holds for, in the whole package."""
    return [
        f"{name}({parameter.name})"
        for name, function in FUNCTIONS.items()
        for position, parameter in enumerate(parameters_of(function))
        if is_bad(position, parameter, function)
    ]


def test_the_walk_sees_functions_classes_and_methods():
    assert {
        "ifanp_jax.data.masks.random",
        "ifanp_jax.models.image_np.ImageNeuralProcess",
        "ifanp_jax.models.image_np.ImageNeuralProcess.complete",
        "ifanp_jax.modules.lpa.LocalPoolingAggregation.__call__",
        "ifanp_jax.training.steps.elbo.TrainState",
    } <= set(MEMBERS)


def test_a_prng_key_comes_first_and_is_called_key():
    def is_late(position, parameter, _):
        is_cache_key = parameter.annotation not in (inspect.Parameter.empty, jax.Array)
        return parameter.name == "key" and position > 0 and not is_cache_key

    assert not offenders(is_late)
    assert not offenders(lambda _, parameter, __: parameter.name in ("rng", "rng_key", "prng", "prng_key"))


def test_every_default_is_keyword_only():
    def is_positional_default(_, parameter, __):
        has_default = parameter.default is not inspect.Parameter.empty
        return has_default and parameter.kind is not inspect.Parameter.KEYWORD_ONLY

    assert not offenders(is_positional_default)


def test_no_function_takes_more_than_six_positional_parameters():
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    counts = {
        name: sum(parameter.kind in positional for parameter in parameters_of(function))
        for name, function in FUNCTIONS.items()
    }
    assert not {name: count for name, count in counts.items() if count > 6}


def test_train_is_the_only_mode_switch_keyword_only_without_default():
    def is_free(_, parameter, __):
        is_bound = parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        return parameter.name == "train" and not is_bound

    assert not offenders(is_free)
    others = ("training", "is_training", "deterministic", "eval_mode", "test")
    assert not offenders(lambda _, parameter, __: parameter.name in others)


def test_masks_are_documented_as_boolean():
    def is_vague(_, parameter, function):
        is_array = parameter.annotation in (jax.Array, np.ndarray, chex.Array, inspect.Parameter.empty)
        if parameter.name not in ("mask", "masks", "observed", "targets") or not is_array:
            return False
        documented = dict(re.findall(r"^ +(\w+): (.*)$", inspect.getdoc(function), re.MULTILINE))
        return not documented.get(parameter.name, "bool").startswith("bool")

    assert not offenders(is_vague)


def test_every_public_name_has_a_docstring():
    assert not [name for name, member in MEMBERS.items() if not (member.__doc__ or "").strip()]
    assert not [name for name in MODULES if not (importlib.import_module(name).__doc__ or "").strip()]


def test_args_sections_name_the_parameters_that_there_are():
    wrong = []
    for name, function in FUNCTIONS.items():
        names = {parameter.name for parameter in parameters_of(function)}
        documented = section(function.__doc__, "Args")
        if documented - names:
            wrong.append((name, documented - names))
    assert not wrong


def test_attributes_sections_name_the_fields_that_there_are():
    """A field may be described where a base class has it."""
    wrong = []
    for name, cls in MEMBERS.items():
        if inspect.isclass(cls) and dataclasses.is_dataclass(cls):
            fields = {field.name for field in dataclasses.fields(cls)}
            fields -= {"parent", "name"} if issubclass(cls, nn.Module) else set()
            own = [base for base in cls.__mro__ if base.__module__.startswith("ifanp_jax.")]
            documented = set().union(*(section(base.__doc__, "Attributes") for base in own))
            if documented != fields:
                wrong.append((name, documented ^ fields))
    assert not wrong


def section(docstring, title):
    """Names listed in one section of a docstring."""
    text = inspect.cleandoc(docstring)
    found = re.search(rf"^{title}:\n((?:  .*\n?|\n)*)", text, re.MULTILINE)
    return set(re.findall(r"^  \*{0,2}(\w+):", found.group(1), re.MULTILINE)) if found else set()


SOURCES = [path for folder in ("ifanp_jax", "configs", "tests") for path in (ROOT / folder).rglob("*.py")]


def test_no_sentence_is_cut_into_scraps():
    """Neighbouring literals of which the first would have room for the word that begins the second."""
    scraps = re.compile(r'^ +f?"([^"\n]{0,40} )"\n +f?"\w', re.MULTILINE)
    found = [f"{path}: {match[0]}" for path in SOURCES for match in scraps.finditer(path.read_text())]
    assert not found, "\n".join(found)
