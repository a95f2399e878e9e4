"""The command line of the benchmarks.

python -m ifanp_jax.benchmark --config=configs/celeba_ifanp.py --output=benchmark.json
python -m ifanp_jax.benchmark reliability --config=configs/digits_ifanp.py --output=reliability.json
"""

import json
import logging
import pathlib
import sys

from absl import flags

from ifanp_jax import files
from ifanp_jax.benchmark import inputs, reliability, speed, table
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import command_line

_OUTPUT = flags.DEFINE_string("output", "", "File for all numbers, as JSON.")
_SECTIONS = flags.DEFINE_multi_enum("section", [], list(speed.SECTIONS), "Only this; may be repeated.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Side in pixels; 0 = as configured.")
_CHANNELS = flags.DEFINE_integer("channels", 0, "1 or 3; 0 = as configured.")


def measure_speed():
    """Measures speed and memory, prints the table and writes the numbers."""
    logging.getLogger("ifanp_jax.training").setLevel(logging.WARNING)  # its progress means nothing here
    config = _get_config()
    image_shape = inputs.get_image_shape(config, image_size=_IMAGE_SIZE.value, channels=_CHANNELS.value)
    _check_output()
    command_line.start_jax()
    sections = tuple(name for name in speed.SECTIONS if name in _SECTIONS.value)
    result = speed.run(config, image_shape, sections=sections)
    print("\n".join(table.list_lines(result)))
    _write(result)


def measure_reliability():
    """Measures what reliability costs, prints the table and writes the numbers."""
    config = _get_config()
    _check_output()
    result = reliability.run(config, reliability.list_config_flags(sys.argv[1:]))
    print("\n".join(reliability.list_lines(result)))
    _write(result)


def _get_config():
    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    return inputs.prepare(config)


def _check_output():
    path = pathlib.Path(_OUTPUT.value)
    if _OUTPUT.value and not path.absolute().parent.is_dir():
        raise UserError(f"--output={path} lies in no folder that exists; make {path.parent} first.")


def _write(result):
    if _OUTPUT.value:
        files.write_whole(pathlib.Path(_OUTPUT.value), json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    is_reliability = sys.argv[1:2] == ["reliability"]
    del sys.argv[1 : 1 + is_reliability]
    command_line.run(measure_reliability if is_reliability else measure_speed)
