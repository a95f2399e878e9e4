"""A shipped model of a tiny run, in a folder of its own."""

import pytest

from benchmarks.release import card, packing
from configs import digits
from ifanp_jax.evaluation import evaluate
from ifanp_jax.inference.model import Model
from ifanp_jax.training import runs
from tests import helpers, tiny

REQUEST = packing.Request(
    name="tiny",
    recipe="digits:point_np.CNP",
    commit="0123456",
    licence="CC0",
    notice="For tests alone.",
)


def write_card(folder, name="tiny", licence="CC0"):
    """A card as a person writes it."""
    sections = [f"## {heading}\n\nSome words.\n" for heading in card.HEADINGS]
    text = "\n".join([f"# {name}\n", *sections, f"{licence}, as the digits.\n", card.BEGIN, card.END, ""])
    (folder / f"{name}.md").write_text(text)


@pytest.fixture(scope="session")
def model():
    """A model of two steps that was never trained; nothing of it is compiled."""
    small = {"evaluate.num_images": 8, "evaluate.num_samples": 2, "evaluate.fractions": (0.4,)}
    config = digits.get_config("point_np.CNP")
    config.update_from_flattened_dict(small | {"evaluate.halves": False, "model.width": 8})
    new = runs.make(config, (8, 8, 1))
    variables = helpers.random_variables(new.module, new.image_shape, seed=2)  # answers in [0, 1]
    return Model(new.module, variables, config, new.image_shape, step=2)


@pytest.fixture(scope="session")
def evaluation(model):
    """What `evaluation.json` holds of it."""
    return evaluate.evaluate(model, tiny.digits())[0]


@pytest.fixture(scope="session")
def folder(model, evaluation, tmp_path_factory):
    """Holds `tiny.safetensors` and its card."""
    folder = tmp_path_factory.mktemp("tiny_model")
    write_card(folder)
    packing.pack(model, evaluation, tiny.digits().evaluation, folder, REQUEST)
    return folder
