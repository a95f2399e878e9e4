"""The command line of the benchmarks: `python -m ifanp_jax.benchmark [reliability] --config=FILE`."""

import json
import logging
import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict

from ifanp_jax import files
from ifanp_jax.benchmark import inputs, reliability, speed, table
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import command_line


def define_flags() -> dict[str, flags.FlagHolder]:
    """The flags of both commands by name, beside those of every command."""
    flags.adopt_module_key_flags(command_line)  # --help lists them too
    return {
        "output": flags.DEFINE_string("output", "", "File for all numbers, as JSON."),
        "section": flags.DEFINE_multi_enum(
            "section", [], list(speed.SECTIONS), "Only this; may be repeated."
        ),
        "image_size": flags.DEFINE_integer("image_size", 0, "Side in pixels; 0 = as configured."),
        "channels": flags.DEFINE_integer("channels", 0, "1 or 3; 0 = as configured."),
    }


def measure_speed(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of speed and memory.

    Args:
      config: from `inputs.prepare`.
      given: from `define_flags`.
    """
    logging.getLogger("ifanp_jax.training").setLevel(logging.WARNING)  # its progress means nothing here
    image_shape = inputs.get_image_shape(
        config, image_size=given["image_size"].value, channels=given["channels"].value
    )
    command_line.start_jax()
    sections = tuple(name for name in speed.SECTIONS if name in given["section"].value)
    result = speed.run(config, image_shape, sections=sections)
    return result, table.list_lines(result)


def measure_reliability(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of what reliability costs; arguments as of `measure_speed`."""
    del given
    result = reliability.run(config, reliability.list_config_flags(sys.argv[1:]))
    return result, reliability.list_lines(result)


def main(measure, given):
    """Measures, prints the table and writes the numbers."""
    config, output = command_line.get_config(), pathlib.Path(given["output"].value or "none")
    if config is None:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output={output} lies in no folder that exists; make {output.parent} first.")
    result, lines = measure(inputs.prepare(config), given)
    print("\n".join(lines))
    if given["output"].value:
        files.write_whole(output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    MEASURE = measure_reliability if sys.argv[1:2] == ["reliability"] else measure_speed
    del sys.argv[1 : 1 + (MEASURE is measure_reliability)]
    GIVEN = define_flags()
    command_line.run(lambda: main(MEASURE, GIVEN))
