"""Optional packages: the table is that of pyproject.toml, and what is missing is named with its extra."""

import importlib.metadata
import importlib.util
import re
import tomllib

import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.runtime import extras
from tests import helpers

PROJECT = tomllib.loads((helpers.ROOT / "pyproject.toml").read_text())["project"]


def packages_of(extra):
    """Names of the distributions that an extra installs, those of the extras that it names among them."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        name = re.match(r"[\w-]+", requirement)[0]
        if name == "ifanp_jax":
            found |= set().union(*map(packages_of, re.search(r"\[(.*)\]", requirement)[1].split(",")))
        else:
            found.add(name)
    return found


def normalise(name):
    return name.lower().replace("-", "_")


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_the_table_is_that_of_the_project(extra):
    distributions = importlib.metadata.packages_distributions()
    installed_by = {normalise(one) for name in extras.EXTRAS[extra] for one in distributions[name]}
    assert {normalise(name) for name in packages_of(extra)} <= installed_by


def test_hard_dependencies_are_few():
    assert len(PROJECT["dependencies"]) <= 13


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    extras.require("train", "a training")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grain" else find(name))
    with pytest.raises(UserError) as caught:
        extras.require("train", "a training")
    assert all(fact in str(caught.value) for fact in ("a training", "grain", "'ifanp_jax[train]'"))
