"""The examples run as scripts, with small settings."""

import re

import pytest

import ifanp_jax
from tests import helpers, tiny

EXAMPLES = {path.stem: path for path in (helpers.ROOT / "examples").glob("*.py")}
SETTINGS = {
    "complete_a_photo": {"SIDE": 48, "NUM_SCRATCHES": 4, "NUM_SAMPLES": 1},
    "digits_several_answers": {"NUM_DIGITS": 2, "NUM_SAMPLES": 2, "ROUNDS": 2},
    "read_the_uncertainty": {"SIDE": 48, "SHARES": (0.3,)},
    "train_on_arrays": {
        "NUM_STEPS": 3,
        "FIELDS": {name: value for name, value in tiny.FIELDS.items() if name != "train.num_steps"},
    },
}
NEEDED = re.compile(r'from_pretrained\("(\w+)"\)')


def shrink(code, settings):
    """Gives the constants at the head of an example other values."""
    for name, value in settings.items():
        code, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", code, flags=re.MULTILINE)
        assert count == 1, name
    return code


def test_every_example_is_run():
    assert set(EXAMPLES) == set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_an_example_runs_and_draws(name, tmp_path):
    code = EXAMPLES[name].read_text()
    for needed in NEEDED.findall(code):
        if needed not in ifanp_jax.list_pretrained():
            pytest.skip(f"the model {needed} is not shipped")
    script = tmp_path / f"{name}.py"
    script.write_text(shrink(code, SETTINGS[name]))
    result = helpers.run_python(script, cwd=tmp_path, MPLBACKEND="agg")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_page(name):
    text = EXAMPLES[name].read_text()
    assert "#       format_name: percent" in text and re.search(r"^# # \w", text, re.MULTILINE)
