"""What configuration files begin with: defaults, shipped files, sizes of models, our training, studies."""

import pathlib
import runpy
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from ifanp_jax import configuration, models
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.inpainters.networks import context_encoder, glcic, shift_net
from ifanp_jax.training import steps

# Sizes of the models: on one data set all have as many parameters as IFANP, within a fifth. The variants of
# IFANP share its width, as in the paper's ablation, and are smaller where they lack a path; MultiscaleNP is
# larger.
POINT_NP = {
    "point_np.CNP": {"width": 124},
    "point_np.LNP": {"width": 108},
    "point_np.NP": {"width": 92},
    "point_np.ANP": {"width": 60},
}
# Three attentions of every image with itself are most of a step's time on two CPU cores; this wide ANP is as
# large.
ANP_FOR_TWO_CORES = {"width": 76, "has_self_attention": False}
# A VAE decodes from a dense layer over its smallest grid, so its size depends on that of the images.
VAE = {
    8: {"width": 36, "num_halvings": 2},
    32: {"width": 20, "num_halvings": 3},
    64: {"width": 20, "num_halvings": 4},
}
MULTISCALE_NP = {8: {"widths": (32, 96), "down_blocks": (1, 2), "up_blocks": (1,)}}
# The inpainters' own small forms; those of DeepFill are variants with names.
INPAINTERS = {
    "glcic.GLCIC": glcic.SMALL_FORMS,
    "context_encoder.ContextEncoder": context_encoder.OTHER_FORMS,
    "shift_net.ShiftNet": shift_net.SMALL_FORMS,
    "se_shift_net.SEShiftNet": shift_net.SMALL_FORMS,
}


def default(*, model: str = "image_np.IFANP") -> ConfigDict:
    """Every field at its default, for a model on the 8x8 digits that scikit-learn carries.

    Args:
      model: a file and a class (or variant) of `ifanp_jax/models` or of the inpainters' networks.

    Raises:
      UserError: when there is no model of that name.
    """
    own = models.get_config(model)
    config = {"model": own, "step": steps.get_config(models.get(own, channels=1))}
    for name, field in configuration.FIELDS.items():
        *groups, last = name.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = field.default
    return ConfigDict(config)


def load(name: str) -> ConfigDict:
    """A configuration by its name, or by the path of its file, with ":ARGUMENT" behind it or without.

    Args:
      name: such as "digits_ifanp", "celeba:point_np.ANP" or "mine.py".

    Raises:
      UserError: when there is none, its file makes no configuration, or one with a field that there is not.
    """
    stem, colon, argument = name.partition(":")
    path = pathlib.Path(stem).expanduser()
    if not path.is_file():
        if stem not in list_shipped():
            raise UserError(
                f"--config={name} is no file and no shipped configuration; give a path, or one of "
                f"{', '.join(list_shipped())}."
            )
        path = shipped_folder() / f"{stem}.py"
    try:
        config = runpy.run_path(str(path))["get_config"](*[argument] * bool(colon))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a configuration file is Python and may raise anything
        raise UserError(f"--config={name} cannot be used: {_explain(error)}.") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={name} cannot be used: get_config returns no ConfigDict.")
    configuration.check_names(config, source=name)
    return config


def _explain(error: BaseException) -> str:
    """What an error says, in one line; that of a ConfigDict hides a suggestion in an error inside."""
    inner = error.args[0] if error.args and isinstance(error.args[0], KeyError) else None
    return str(inner.args[0]).replace("\n", "; ").rstrip("?") if inner else first_line(error)


def list_shipped() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(path.stem for path in shipped_folder().glob("[!_]*.py"))


def shipped_folder() -> pathlib.Path:
    """The folder of the shipped files: inside the installed package, or beside it in a clone."""
    package = pathlib.Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def size_of(model: str, image_size: int) -> dict[str, Any]:
    """The fields that make a model as large as the others; {} for one that keeps its defaults.

    Args:
      model: its name.
      image_size: side of the images in pixels: 8, 64, or 32, which also serves 28; of inpainters up to 256.
    """
    if model.startswith("image_np."):
        return {"width": 32}
    if model.startswith("vae."):
        return dict(VAE[image_size])
    by_size = MULTISCALE_NP if model == "multiscale_np.MultiscaleNP" else INPAINTERS.get(model, {})
    return dict(by_size.get(image_size) or POINT_NP.get(model, {}))


def use_our_training(config: ConfigDict) -> ConfigDict:
    """Our training, for any model: what gives more than another architecture at equal time.

    One scale per image for the mean and a scale head beside it; contexts of every kind and size, each image
    its own; flips; Muon for kernels; a moving average of the parameters; the loss counts unobserved values.
    The evaluation also measures samples by rounds.
    """
    config.model.update(likelihood="per_image", sigma_floor=0.004)
    if config.model.name != "multiscale_np.MultiscaleNP":
        config.model.scale_weight = 0.1
    config.data.flips = "horizontal"
    config.mask.kind = "varied"
    config.mask.fraction = (0.02, 0.98)
    config.objective.update(target="unobserved", per_value=True)
    config.train.update(
        optimizer="muon", learning_rate=1e-2, warmup_steps=50, weight_decay=1e-3, ema_decay=0.995
    )
    config.evaluate.rounds = 16
    return config


def as_change(before: ConfigDict, after: ConfigDict) -> dict[str, dict[str, Any]]:
    """The fields in which one configuration of a model differs from another, as a change of a study."""
    found = {}
    for group in ("data", "mask", "model", "objective", "train", "evaluate"):
        old, new = before[group].to_dict(), after[group].to_dict()
        if differing := {name: value for name, value in new.items() if value != old[name]}:
            found[group] = differing
    return found


def add_study(
    config: ConfigDict,
    names: Sequence[str],
    fields_of: Callable[[str], dict[str, Any]],
    *,
    common: Sequence[str] = ("compute_dtype",),
    **study: Any,
) -> ConfigDict:
    """Makes a study of many models out of the configuration of one.

    Args:
      config: of one model on the data of the study; changed: `config.model` keeps what all models share.
      names: of the models; "-" and the name of a change may follow.
      fields_of: name of a model -> the fields in which it differs from its defaults.
      common: fields of `config.model` that all models share.
      **study: the other fields of `config.study`:
        `seeds`: of the runs of each model.
        `minutes`: of one core for each model; 0 = `train.num_steps`.
        `changes`: fields by group, by the name of a change or of a model's file.
        `order`: pairs (lower, higher) of models whose differences are shown.
        `variants`: models of figures C and D; `figure_a`, `figure_b`: of those figures.
        `published`: (model, ((fraction, raw PSNR in dB, KL), ...)) as a paper prints it.
    """
    fields = {}  # each model's own, by file and class
    for name in dict.fromkeys(name.partition("-")[0] for name in names):
        family, variant = name.split(".")
        own = models.get_config(name, **fields_of(name)).items()
        fields.setdefault(family, {})[variant] = {
            field: value for field, value in own if field not in ("name", *common)
        }
    with config.unlocked():
        config.model = ConfigDict({name: config.model[name] for name in common})
        config.step = ConfigDict({"name": ""})
        config.study = ConfigDict({"models": tuple(names), "seeds": (0,), "fields": fields} | study)
    return config
