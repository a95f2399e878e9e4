"""The command line of the benchmarks, from a clone: `python -m benchmarks COMMAND`.

| command     | measures                                                                       |
|-------------|--------------------------------------------------------------------------------|
| peers       | our models beside other implementations                                        |
| quality     | minutes of training until the best interpolation is passed                     |
| protocols   | log-likelihoods of a trained model by the protocols of other papers            |
| roofline    | operations and bytes of each part, and the bounds of an H100 and a TPU v5e     |
| reliability | what a save, a start and a signal cost                                         |
| holes       | kinds of damage in photographs, completed by a shipped model and by others     |
| collect     | nothing: one table of the results of `ifanp_jax.benchmark` in --results        |

The training step and one picture are measured by `python -m ifanp_jax.benchmark`, which is installed too.
"""

import dataclasses
import json
import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict

import ifanp_jax
from benchmarks import holes, peers, protocols, quality, reliability, roofline
from ifanp_jax import benchmark, command_line
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.inference import autoregressive


def define_flags() -> dict[str, flags.FlagHolder]:
    """The flags of all commands by name, beside those of every command."""
    flags.adopt_module_key_flags(command_line)  # --help lists them too
    return {
        "output": flags.DEFINE_string("output", "", "File for all numbers, as JSON."),
        "peers_python": flags.DEFINE_multi_string(
            "peers_python", [], "peers: a Python in which some of them are installed; may be repeated."
        ),
        "family": flags.DEFINE_multi_enum(
            "family", [], list(peers.FAMILIES), "peers: only this; may be repeated."
        ),
        "batch_size": flags.DEFINE_integer(
            "batch_size", peers.FULL_EFFORT.batch_size, "peers: images of a step.", lower_bound=1
        ),
        "picture_size": flags.DEFINE_integer(
            "picture_size", peers.FULL_EFFORT.picture_size, "peers: side of the picture.", lower_bound=1
        ),
        "minutes": flags.DEFINE_float("minutes", 5.0, "quality: of training."),
        "model": flags.DEFINE_string("model", "", "protocols, holes: a shipped model, such as mnist28."),
        "pictures": flags.DEFINE_string("pictures", "", "holes: folder of photographs."),
        "masks": flags.DEFINE_string("masks", "", "holes: folder of masks of film damage; empty = none."),
        "num_pictures": flags.DEFINE_integer("num_pictures", 8, "holes: of them.", lower_bound=1),
        "method": flags.DEFINE_multi_string("method", [], "holes: only this one; may be repeated."),
        "answers": flags.DEFINE_string("answers", "", "holes: folder for the answers; empty = none."),
        "workdir": flags.DEFINE_string("workdir", "", "protocols: or the folder of a training."),
        "rounds": flags.DEFINE_integer(
            "rounds", autoregressive.DEFAULT_ROUNDS, "protocols: of the joint density.", lower_bound=1
        ),
        "image_size": flags.DEFINE_integer("image_size", 0, "roofline: in pixels; 0 = as configured."),
        "channels": flags.DEFINE_integer("channels", 0, "roofline: 1 or 3; 0 = as configured."),
        "results": flags.DEFINE_string("results", "", "collect: folder with benchmark_*.json."),
    }


def measure_peers(given: dict) -> tuple[dict, list[str]]:
    """Numbers and table of our models beside others."""
    effort = dataclasses.replace(
        peers.FULL_EFFORT,
        families=tuple(name for name in peers.FAMILIES if name in given["family"]),
        batch_size=given["batch_size"],
        picture_size=given["picture_size"],
    )
    result = peers.run(pythons=tuple(given["peers_python"]), effort=effort)
    return result, peers.list_lines(result)


def measure_quality(config: ConfigDict, given: dict) -> tuple[dict, list[str]]:
    """Numbers and table of the time to quality."""
    command_line.start_jax()
    result = quality.run(config, sources.load(config.data), minutes=given["minutes"])
    return result, quality.list_lines(result)


def measure_protocols(config: ConfigDict, given: dict) -> tuple[dict, list[str]]:
    """Numbers and tables of the protocols of other papers."""
    if bool(given["model"]) == bool(given["workdir"]):
        raise UserError("protocols measures one trained model; name it by --model or by --workdir.")
    command_line.start_jax()
    name, workdir = given["model"], given["workdir"]
    trained = ifanp_jax.from_pretrained(name) if name else ifanp_jax.load(workdir)
    for group in ("model", "step", "objective"):
        config[group] = trained.config[group]
    dataset = sources.load(config.data)
    trained.check_takes(dataset.evaluation.shape[1:])
    trained = dataclasses.replace(trained, config=config)
    result = protocols.run(trained, dataset, num_rounds=given["rounds"])
    return result, protocols.list_lines(result)


def measure_roofline(config: ConfigDict, given: dict) -> tuple[dict, list[str]]:
    """Numbers and table of the roofline."""
    command_line.start_jax()
    shape = benchmark.get_image_shape(config, image_size=given["image_size"], channels=given["channels"])
    result = roofline.run(config, shape)
    return result, roofline.list_lines(result)


def measure_reliability(config: ConfigDict, given: dict) -> tuple[dict, list[str]]:
    """Numbers and table of what reliability costs."""
    del given
    result = reliability.run(config, reliability.list_config_flags(sys.argv[1:]))
    return result, reliability.list_lines(result)


def measure_holes(given: dict) -> tuple[dict, list[str]]:
    """Numbers and table of kinds of damage."""
    if not given["pictures"]:
        raise UserError("--pictures is missing; name a folder of photographs.")
    command_line.start_jax()
    names = {name: given[name] for name in ("masks", "num_pictures", "answers")}
    names["methods"] = given["method"]
    result = holes.run(given["pictures"], model=given["model"] or "photos", **names)
    return result, holes.list_lines(result)


def collect(given: dict) -> tuple[dict, list[str]]:
    """The results of several runs of `ifanp_jax.benchmark`, and one table with a row for each."""
    paths = sorted(pathlib.Path(given["results"]).glob("benchmark_*.json"))
    if not paths:
        raise UserError(f"--results={given['results']} holds no benchmark_*.json; name the folder.")
    results = {path.stem: json.loads(path.read_text()) for path in paths}
    rows = [dict(benchmark.list_rows(result)) for result in results.values()]
    head = list(dict.fromkeys(name for row in rows for name in row))
    return results, tables.markdown_table(head, [[row.get(name, "") for name in head] for row in rows])


WITHOUT_CONFIG = {"peers": measure_peers, "holes": measure_holes, "collect": collect}
WITH_CONFIG = {
    "quality": measure_quality,
    "protocols": measure_protocols,
    "roofline": measure_roofline,
    "reliability": measure_reliability,
}


def main(command: str, holders: dict[str, flags.FlagHolder]) -> None:
    """Measures, prints the table and writes the numbers."""
    config, given = command_line.get_config(), {name: holder.value for name, holder in holders.items()}
    commands = {**WITHOUT_CONFIG, **WITH_CONFIG}
    if command not in commands:
        raise UserError(f"The first word must be a command: {', '.join(commands)}.")
    if command in WITHOUT_CONFIG and config is not None:
        raise UserError(f"{command} takes no --config; leave it out.")
    if command in WITH_CONFIG and config is None:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    benchmark.check_output(given["output"])
    arguments = [] if config is None else [benchmark.prepare(config)]
    result, lines = commands[command](*arguments, given)
    print("\n".join(lines))
    benchmark.write(given["output"], result)


if __name__ == "__main__":
    COMMAND = sys.argv.pop(1) if sys.argv[1:] and not sys.argv[1].startswith("-") else ""
    HOLDERS = define_flags()
    command_line.run(lambda: main(COMMAND, HOLDERS))
