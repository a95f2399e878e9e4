"""The command line: `ifanp-jax`, or `python -m ifanp_jax.main`.

ifanp-jax --config=digits_multiscale --workdir=runs/digits
ifanp-jax complete --model=photos --input=PICTURE --mask=MASK --output=DONE
ifanp-jax serve --model=photos
"""

from absl import flags

from ifanp_jax import command_line, commands
from ifanp_jax.inference.options import DTYPES, FILLS, FORMATS, SIZES, CompletionOptions

MODES = {
    "train": commands.train,
    "evaluate": commands.evaluate,
    "complete": commands.complete,
    "export": commands.export,
    "study": commands.study,
    "serve": commands.serve,
}

flags.adopt_module_key_flags(command_line)  # --help lists them too
flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, tables, figures.")
flags.DEFINE_enum(
    "mode",
    "train",
    list(MODES),
    "train (then evaluate and draw), evaluate (and draw) a run, complete your own pictures with it, export "
    "it for use without this package, study: train and compare the models that a configuration lists, or "
    "serve: a page in the browser that completes pictures. The first word may stand for it: ifanp-jax serve.",
)
flags.DEFINE_string(
    "model",
    None,
    "complete, export, serve, evaluate: a shipped model, such as photos, in place of --workdir; evaluate "
    "then needs --config for the data, and --output for the tables.",
)
flags.DEFINE_string("input", None, "complete: a picture or a folder of pictures.")
flags.DEFINE_string(
    "mask",
    "",
    "complete: mask picture or folder of them, white = observed; else the alpha channel, opaque = observed.",
)
flags.DEFINE_bool("invert_mask", False, "complete: white (or opaque) = to be completed.")
flags.DEFINE_float(
    "mask_threshold",
    None,
    "complete: mask pictures are observed where they are at least so bright, from 0 to 1: as of infrared.",
)
flags.DEFINE_string("output", None, "complete: folder for the pictures. export: a new folder, or NAME.onnx.")
flags.DEFINE_enum(
    "format",
    FORMATS[0],
    FORMATS,
    "export: for JAX, the parameters and a program of --num_samples answers, or for ONNX Runtime one file.",
)
flags.DEFINE_enum("dtype", DTYPES[0], DTYPES, "export --format=onnx: of the stored parameters.")
flags.DEFINE_integer("num_samples", 4, "complete, export: answers per picture.")
flags.DEFINE_integer("seed", CompletionOptions.seed, "complete: of the latent samples.")
flags.DEFINE_enum(
    "size",
    CompletionOptions.size,
    SIZES,
    "complete: at the picture's own size in one call, resized to the trained size and pasted back, or auto: "
    "in tiles, or what suits the model; the log says what, and why.",
)
flags.DEFINE_string(
    "method",
    "",
    "complete: without a trained model: biharmonic, telea, fsr, nearest, ...; an unknown one lists all.",
)
flags.DEFINE_bool(
    "compare", False, "complete: by the trained model and, beside it, by --method, biharmonic by default."
)
flags.DEFINE_integer(
    "rounds", None, "complete: of the samples, see docs/export.md; by default what suits the model, 16 or 1."
)
flags.DEFINE_float(
    "temperature", CompletionOptions.temperature, "complete: factor of the noise, with several rounds."
)
flags.DEFINE_enum(
    "fill",
    CompletionOptions.fill,
    FILLS,
    "complete: what NAME_completed.png shows in holes: auto takes parts of the picture itself where a hole "
    "is deep, model its smooth estimate, montage parts wherever they can be had.",
)
flags.DEFINE_bool(
    "grain",
    CompletionOptions.grain,
    "complete: give thin marks of NAME_completed.png the grain of their surroundings; by default for 8 bits.",
)
flags.DEFINE_integer(
    "num_completed",
    CompletionOptions.num_completed,
    "complete: pictures to choose from, NAME_completed.png, NAME_completed_2.png, ...; holes differ.",
)
flags.DEFINE_string(
    "extend",
    "",
    "complete: make the picture larger by LEFT,TOP,RIGHT,BOTTOM, in pixels or as 10%, and complete that too.",
)
flags.DEFINE_list(
    "allow_config_change", [], "train: fields in which a run that goes on may differ, as train.num_steps."
)
flags.DEFINE_string("host", "127.0.0.1", "serve: address to listen on; any other one lets other machines in.")
flags.DEFINE_integer("port", 8000, "serve: 0 = any free one.", lower_bound=0, upper_bound=65535)


def main():
    """Runs the chosen mode."""
    given = flags.FLAGS
    commands.check(given)
    if not commands.is_classical(given):
        command_line.start_jax()
    MODES[given.mode](given)


def run():
    """The command `ifanp-jax`, the same as `python -m ifanp_jax.main`."""
    command_line.run(main)


if __name__ == "__main__":
    run()
