"""The command line of the benchmarks: `python -m benchmarks [COMMAND] --config=FILE`.

| command     | measures                                                                   |
|-------------|----------------------------------------------------------------------------|
| (none)      | speed and memory of the step, its parts, completion and the start          |
| reliability | what saves, signals and kills cost                                         |
| peers       | our models beside other implementations; it takes no --config              |
| quality     | minutes of training until the best interpolation is passed                 |
| collect     | nothing: one table of the results in --results; it takes no --config       |
| protocols   | log-likelihoods of a trained model by the protocols of other papers        |
| roofline    | operations and bytes of each part, and the bounds of an H100 and a TPU v5e |
| tiles       | memory and tolerance of completion by tiles; it takes no --config          |
"""

import dataclasses
import json
import logging
import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict

from benchmarks import inputs, peers, protocols, quality, reliability, roofline, speed, table, tiles
from ifanp_jax import files, shipped
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.inference import autoregressive
from ifanp_jax.runtime import command_line
from ifanp_jax.training import runs


def define_flags() -> dict[str, flags.FlagHolder]:
    """The flags of all commands by name, beside those of every command."""
    flags.adopt_module_key_flags(command_line)  # --help lists them too
    return {
        "output": flags.DEFINE_string("output", "", "File for all numbers, as JSON."),
        "section": flags.DEFINE_multi_enum(
            "section", [], list(speed.SECTIONS), "Only this; may be repeated."
        ),
        "image_size": flags.DEFINE_integer("image_size", 0, "Side in pixels; 0 = as configured."),
        "channels": flags.DEFINE_integer("channels", 0, "1 or 3; 0 = as configured."),
        "full": flags.DEFINE_bool(
            "full", False, "completion, tiles: also 4000x3000 pixels, and the slow methods."
        ),
        "peers_python": flags.DEFINE_multi_string(
            "peers_python", [], "peers: a Python in which some of them are installed; may be repeated."
        ),
        "family": flags.DEFINE_multi_enum(
            "family", [], list(peers.FAMILIES), "peers: only this; may be repeated."
        ),
        "batch_size": flags.DEFINE_integer(
            "batch_size", peers.FULL_EFFORT.batch_size, "peers: images of a step.", lower_bound=1
        ),
        "results": flags.DEFINE_string("results", None, "collect: folder with benchmark_*.json."),
        "model": flags.DEFINE_string("model", "", "protocols: a shipped model, such as mnist28."),
        "workdir": flags.DEFINE_string("workdir", "", "protocols: or the folder of a training."),
        "rounds": flags.DEFINE_integer(
            "rounds", autoregressive.DEFAULT_ROUNDS, "protocols: of the joint log-likelihood.", lower_bound=1
        ),
        "minutes": flags.DEFINE_float("minutes", 5.0, "quality: of training."),
    }


def measure_speed(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of speed and memory.

    Args:
      config: from `inputs.prepare`.
      given: from `define_flags`.
    """
    logging.getLogger("ifanp_jax.training").setLevel(logging.WARNING)  # its progress means nothing here
    image_shape = _find_image_shape(config, given)
    command_line.start_jax()
    sections = tuple(name for name in speed.SECTIONS if name in given["section"].value)
    effort = inputs.FULL_EFFORT
    if given["full"].value:
        effort = dataclasses.replace(effort, **inputs.LARGE_PICTURES)
    result = speed.run(config, image_shape, sections=sections, effort=effort)
    return result, table.list_lines(result)


def _find_image_shape(config, given):
    return inputs.get_image_shape(
        config, image_size=given["image_size"].value, channels=given["channels"].value
    )


def measure_reliability(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of what reliability costs; arguments as of `measure_speed`."""
    del given
    result = reliability.run(config, reliability.list_config_flags(sys.argv[1:]))
    return result, reliability.list_lines(result)


def measure_peers(config: None, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of our models beside others; arguments as of `measure_speed`, without `config`."""
    del config
    chosen = tuple(name for name in peers.FAMILIES if name in given["family"].value)
    result = peers.run(
        pythons=tuple(given["peers_python"].value),
        effort=dataclasses.replace(peers.FULL_EFFORT, families=chosen, batch_size=given["batch_size"].value),
    )
    return result, peers.list_lines(result)


def measure_quality(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of the time to quality; arguments as of `measure_speed`."""
    command_line.start_jax()
    result = quality.run(config, sources.load(config.data), minutes=given["minutes"].value)
    return result, quality.list_lines(result)


def measure_protocols(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and tables of the protocols of other papers; arguments as of `measure_speed`."""
    model, workdir = given["model"].value, given["workdir"].value
    if bool(model) == bool(workdir):
        raise UserError("protocols measures one trained model; name it by --model or by --workdir.")
    command_line.start_jax()
    trained = shipped.read(model) if model else runs.load(workdir).model
    config.model, config.step, config.objective = (
        trained.config.model,
        trained.config.step,
        trained.config.objective,
    )
    dataset = sources.load(config.data)
    trained.check_takes(dataset.evaluation.shape[1:])
    trained = dataclasses.replace(trained, config=config)
    result = protocols.run(trained, dataset, num_rounds=given["rounds"].value)
    return result, protocols.list_lines(result)


def measure_roofline(config: ConfigDict, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """Numbers and table of the roofline; arguments as of `measure_speed`."""
    command_line.start_jax()
    result = roofline.run(config, _find_image_shape(config, given))
    return result, roofline.list_lines(result)


def collect(config: None, given: dict[str, flags.FlagHolder]) -> tuple[dict, list[str]]:
    """The results of several runs of the speed, and one table of them; arguments as of `measure_peers`."""
    del config
    folder = pathlib.Path(given["results"].value or "")
    paths = sorted(folder.glob("benchmark_*.json"))
    if not paths:
        raise UserError(
            f"--results={given['results'].value or ''} holds no benchmark_*.json; name the folder."
        )
    results = {path.stem: json.loads(path.read_text()) for path in paths}
    return results, table.list_summary(list(results.values()))


def measure_tiles(config: None, given: dict[str, flags.FlagHolder]) -> tuple[list, list[str]]:
    """Numbers and table of completion by tiles; arguments as of `measure_peers`."""
    del config
    result = tiles.run(is_full=given["full"].value)
    return result, tiles.list_lines(result)


COMMANDS = {
    "collect": collect,
    "reliability": measure_reliability,
    "peers": measure_peers,
    "protocols": measure_protocols,
    "quality": measure_quality,
    "roofline": measure_roofline,
    "tiles": measure_tiles,
}


def main(measure, given):
    """Measures, prints the table and writes the numbers."""
    config, output = command_line.get_config(), pathlib.Path(given["output"].value or "none")
    needs_none = measure in (collect, measure_peers, measure_tiles)
    if config is None and not needs_none:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    if config is not None and needs_none:
        raise UserError("This command takes no --config; leave it out.")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output={output} lies in no folder that exists; make {output.parent} first.")
    result, lines = measure(config if config is None else inputs.prepare(config), given)
    print("\n".join(lines))
    if given["output"].value:
        files.write_whole(output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    NAME = sys.argv[1] if sys.argv[1:2] and sys.argv[1] in COMMANDS else ""
    del sys.argv[1 : 1 + bool(NAME)]
    GIVEN = define_flags()
    command_line.run(lambda: main(COMMANDS.get(NAME, measure_speed), GIVEN))
