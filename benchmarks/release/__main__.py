"""Makes a shipped model of a training that was evaluated: `NAME.safetensors`, and the numbers of its card.

python -m benchmarks.release --workdir=runs/mnist --name=mnist28 --recipe=mnist_multiscale \
    --commit=0123456 --licence="CC BY-SA 3.0"

The card, `NAME.md`, is written by a person before; its sections are named where it lacks one.
"""

from absl import flags

from ifanp_jax import command_line
from ifanp_jax.errors import UserError
from ifanp_jax.shipped import FOLDER


def define_flags() -> dict[str, flags.FlagHolder]:
    """The flags by name, beside those of every command."""
    flags.adopt_module_key_flags(command_line)  # --help lists them too
    return {
        "workdir": flags.DEFINE_string("workdir", None, "Folder of the run, which was evaluated."),
        "output": flags.DEFINE_string("output", str(FOLDER), "Folder of the card and for the weights."),
        "name": flags.DEFINE_string("name", "", "Of the model, such as mnist28."),
        "recipe": flags.DEFINE_string("recipe", "", "Shipped configuration that the training started from."),
        "commit": flags.DEFINE_string("commit", "", "Of the code that trained it."),
        "licence": flags.DEFINE_string("licence", "", "Of the weights, in a few words."),
        "notice": flags.DEFINE_string("notice", "", "A sentence that is logged when the model is loaded."),
        "montage_depth": flags.DEFINE_string(
            "montage_depth", "", "Pixels above which parts of a picture fill a hole better; empty = none."
        ),
        "dtype": flags.DEFINE_enum(
            "dtype",
            "auto",
            ["auto", "float16", "float32"],
            "Of what is stored; auto = float16 where that changes no number.",
        ),
    }


def main(given):
    """Packs."""
    for name in ("workdir", "name", "recipe"):
        if not given[name].value:
            raise UserError(f"--{name} is missing; --help lists what is needed.")
    command_line.start_jax()
    from benchmarks.release import packing

    fields = ("name", "recipe", "commit", "licence", "notice", "dtype", "montage_depth")
    request = packing.Request(**{field: given[field].value for field in fields})
    packing.pack(*packing.load(given["workdir"].value), given["output"].value, request)


if __name__ == "__main__":
    GIVEN = define_flags()
    command_line.run(lambda: main(GIVEN))
