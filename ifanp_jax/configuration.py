"""Every field of a configuration, once: its default, what it may be, and what it means.

Any of them can be set on the command line, `--config.train.num_steps=2000`. Two groups stand elsewhere:
`config.model` has a model's name and the fields of its class, `config.step` those of a way of training. A
study adds `config.study`.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ifanp_jax import errors, objectives
from ifanp_jax.data import augment, masks, sources
from ifanp_jax.errors import UserError


class Field(NamedTuple):
    """One field.

    Attributes:
      default: a value; its type is that of the field.
      low: lowest value of a number; None = anything goes.
      high: highest value; None = no limit.
      choices: all values; () = anything goes.
      is_free: another value does not change a run that goes on, but for rounding.
      is_place: says where something lies on this machine.
      is_of_images: says which images of a source are taken, and which part of them.
    """

    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    is_free: bool = False
    is_place: bool = False
    is_of_images: bool = False


# What a protocol sets, whatever the configuration's file says.
PROTOCOLS = {
    "": {},
    "paper": {
        "mask.kind": "random",
        "mask.fraction": (0.3, 0.6),
        "objective.target": "all",
        "evaluate.fractions": (0.2, 0.4, 0.6),
        "evaluate.uniform_fraction": 0.0,
    },
    "npf": {
        "mask.kind": "random",
        "mask.fraction": (0.0, 0.3),
        "objective.target": "all",
        "model.likelihood": "per_pixel",
        "model.sigma_floor": 0.01,
        "model.has_covariance": False,
        "evaluate.fractions": (),
        "evaluate.uniform_fraction": 0.3,
        "evaluate.halves": False,
    },
}
# The size at which a protocol takes the images of a data set; other data stay as configured.
GEOMETRIES = {
    ("npf", "mnist"): {"data.image_size": 32, "data.crop_size": 0, "data.crop_box": ()},
    ("npf", "celeb_a"): {"data.image_size": 32, "data.crop_size": 0, "data.crop_box": (0, 0, 218, 178)},
}
MAX_SEED = 2**32 - 1

FIELDS = {
    # "paper" = random contexts of 30 to 60 %, tested at 20, 40 and 60 %, all pixels as target; "npf" = that
    # of the neural-process-family notebooks: random contexts of 0 to 30 % in training and test, all pixels as
    # target, sigma per pixel with floor 0.01, MNIST and whole CelebA frames resized to 32x32; "" = as the
    # fields below say. A protocol sets the fields it speaks of.
    "protocol": Field("", choices=tuple(PROTOCOLS)),
    "seed": Field(0, low=0, high=MAX_SEED),  # parameters, batches, masks and latent samples follow from it
    # -- Where images come from and what is done to them
    "data.source": Field("digits", choices=sources.SOURCES, is_of_images=True),
    # TFDS name for "tfds" ("mnist", "celeb_a", ...), else a label for the tables: where it is left as it is,
    # data of a folder and arrays take the name of where they lie
    "data.name": Field("digits"),
    # TFDS data_dir, folder of pictures, or folder of .npy / .npz files
    "data.dir": Field("", is_free=True, is_place=True),
    # side of the square images in pixels, or of a picture's shorter side before it is cut into tiles; 0 = as
    # they are after the crop
    "data.image_size": Field(0, low=0, is_of_images=True),
    "data.channels": Field(0, low=0, is_of_images=True),  # 1 = grey, 3 = RGB, 0 = as they are
    # side of the central crop before resizing, in pixels; 0 = largest square ("digits" and "arrays": no crop)
    "data.crop_size": Field(0, low=0, is_of_images=True),
    # or a fixed crop (top, left, height, width) in pixels; () = central
    "data.crop_box": Field((), is_of_images=True),
    # "folder": cuts whole pictures into squares of this side in pixels, or of image_size where that is less;
    # 0 = crops them
    "data.tile_size": Field(0, low=0, is_of_images=True),
    # TFDS split, stem of the array file, or sub-folder of pictures
    "data.train_split": Field("train", is_of_images=True),
    "data.eval_split": Field("test", is_of_images=True),  # held out, for validation and the evaluation
    # "folder" without a partition file: fraction of held-out pictures
    "data.eval_fraction": Field(0.1, low=0, high=1),
    # "folder": CelebA's list_eval_partition.txt; 0 = train, eval_split "val" or "test" names 1 or 2
    "data.partition_file": Field("", is_free=True, is_place=True, is_of_images=True),
    "data.max_train_images": Field(0, low=0, is_of_images=True),  # keeps only the first so many; 0 = all
    "data.max_eval_images": Field(0, low=0, is_of_images=True),
    # of decoded images; "" = the user's cache directory
    "data.cache_dir": Field("", is_free=True, is_place=True),
    # training images on the "device" (split among the devices), a "stream" from the host, or "auto": a stream
    # where they would take more than a quarter of the devices' memory; the batches are the same
    "data.placement": Field("auto", choices=("auto", "device", "stream"), is_free=True),
    # side of random training crops, in pixels; 0 = whole images
    "data.random_crop": Field(0, low=0, is_of_images=True),
    # bounds of the size at which random crops are taken, as a fraction of the picture's own, at most 1: a
    # device reduces squares of random_crop / bound pixels, the side uniformly at random between
    "data.random_scale": Field((1.0, 1.0), is_of_images=True),
    # of training images: "horizontal", or "all" symmetries of a square
    "data.flips": Field("none", choices=augment.FLIPS),
    # -- Contexts in training
    # "random" pixels (the paper), a half ("top", "bottom", "left", "right"), all but a box ("box_center",
    # "box_random"), a "file", "mixed": random pixels for 3 images in 4, else a half or a random box,
    # "varied": for each image a kind of its own by `shares` and an observed fraction of its own,
    # "inpainting": for each image a hole of the inpainters' papers by `hole_shares`, "film": all but damage
    # cut from the pictures of `folder`, "text": all but letters, "lattice": every second, third or fourth
    # pixel of both axes
    "mask.kind": Field("random", choices=masks.KINDS),
    # observed part of the pixels: one value, or a range drawn anew at every step ("varied": for every image)
    "mask.fraction": Field((0.3, 0.6)),
    # "varied": how many of the images, in expectation
    "mask.shares.random": Field(0.65, low=0),
    "mask.shares.half": Field(0.15, low=0),
    "mask.shares.box": Field(0.1, low=0),
    "mask.shares.strokes": Field(0.1, low=0),
    "mask.shares.film": Field(0.0, low=0),
    "mask.shares.text": Field(0.0, low=0),
    "mask.shares.lattice": Field(0.0, low=0),
    # "inpainting", in expectation: a rectangle of half the side or a little less, free-form strokes, the
    # centre square (or 1/64 smaller on each side), half of the image, or all but 10 to 50 % of the pixels
    "mask.hole_shares.box": Field(1.0, low=0),
    "mask.hole_shares.strokes": Field(0.0, low=0),
    "mask.hole_shares.centre": Field(0.0, low=0),
    "mask.hole_shares.centre_overlap": Field(0.0, low=0),
    "mask.hole_shares.half": Field(0.0, low=0),
    "mask.hole_shares.pixels": Field(0.0, low=0),
    "mask.file": Field("", is_place=True),  # "file": picture or .npy, white or True = observed
    # "film", alone or in "varied": folder of mask pictures of any sizes, white = intact; parts are cut out
    # around damage, at 1 to 1/4 of their size, turned and mirrored
    "mask.folder": Field("", is_place=True),
    # -- The loss
    "objective.target": Field("all", choices=objectives.TARGETS),  # pixels whose likelihood counts
    "objective.num_samples": Field(1, low=1),  # K latent samples per image
    "objective.kl_weight": Field(1.0, low=0),  # 1 = the ELBO
    "objective.per_value": Field(False),  # loss in nats per target value of the batch, not per image
    # -- Optimiser, schedule, logs and checkpoints
    # starts from the parameters of a trained model, not from drawn ones: the name of a shipped one
    # ("photos"), or the folder of a training or of an export; read at a fresh start alone, never by a run
    # that goes on
    "train.init_from": Field("", is_place=True),
    "train.num_steps": Field(1500, low=1, high=2**31 - 1),
    "train.batch_size": Field(64, low=1),  # images, over all devices
    # optimiser steps per call of the device; 0 = one on a CPU, 0.1 to 1 s of them on an accelerator
    "train.steps_per_dispatch": Field(0, low=0, is_free=True),
    # "adam" for all, or "muon" for kernels (orthogonalised momentum) and Adam for the rest
    "train.optimizer": Field("adam", choices=("adam", "muon")),
    "train.learning_rate": Field(3e-3, low=0),  # peak
    "train.adam_share": Field(0.3, low=0),  # "muon": learning rate of what is left to Adam, as a fraction
    "train.warmup_steps": Field(100, low=0),  # linear from 0; then cosine to 0 at num_steps
    "train.weight_decay": Field(0.0, low=0),  # AdamW; 0 = Adam
    "train.max_grad_norm": Field(1.0, low=0),  # clips by global norm; 0 = never
    # evaluates a moving average of the parameters; 0 = the parameters
    "train.ema_decay": Field(0.0, low=0, high=0.999999),
    "train.log_every": Field(50, low=1),  # steps
    "train.validate_every": Field(500, low=0),  # steps; 0 = never
    "train.checkpoint_every": Field(500, low=1, is_free=True),  # steps
    # also saves when so many minutes went by; 0 = never
    "train.checkpoint_minutes": Field(10.0, low=0, is_free=True),
    "train.num_checkpoints": Field(3, low=1, is_free=True),  # newest checkpoints kept
    "train.keep_every": Field(0, low=0, is_free=True),  # and for ever those of every so many steps; 0 = none
    # -- The test
    # contexts, latent samples and bootstrap; the same for every model
    "evaluate.seed": Field(0, low=0, high=MAX_SEED),
    "evaluate.fractions": Field((0.2, 0.4, 0.6)),  # of random context pixels
    # also contexts whose fraction is drawn for each image from 0 to this; 0 = none
    "evaluate.uniform_fraction": Field(0.0, low=0, high=1),
    "evaluate.halves": Field(True),  # also top, bottom, left and right half as context
    "evaluate.num_images": Field(0, low=0),  # first held-out images; 0 = all
    # latent samples: prediction = mean, log_prob = importance-weighted
    "evaluate.num_samples": Field(8, low=1),
    # also measures samples by so many rounds, and the joint log-likelihood by them; 0 = leaves them out
    "evaluate.rounds": Field(0, low=0),
    "evaluate.rounds_images": Field(64, low=1),  # first held-out images whose samples are drawn by rounds
    "evaluate.batch_size": Field(64, low=1, is_free=True),  # images; does not change any number
    # at most, for the interpolation baselines; 0 = none
    "evaluate.classical_images": Field(1000, low=0, is_free=True),
    "evaluate.figure_images": Field(6, low=0, is_free=True),  # rows of completions.png
}
# What `config.study` may hold; `presets.add_study` explains them.
STUDY_FIELDS = (
    "models", "seeds", "minutes", "fields", "changes", "variants", "figure_a", "figure_b", "order",
    "published",
)  # fmt: skip
ELSEWHERE = ("model", "step")  # groups whose fields a class has
LABELLED = ("folder", "arrays")  # sources for which `data.name` is no more than a label


def prepare(
    config: ConfigDict,
    *,
    given: Mapping[str, Any] | None = None,
    trained: ConfigDict | None = None,
    source: str = "",
) -> None:
    """Sets the fields that `config.protocol` speaks of, and then checks all.

    Args:
      config: changed, and locked: it takes no further field.
      given: values by dotted name that a person set by hand, which no protocol overrides.
      trained: configuration of a model that is trained already: it keeps its own fields.
      source: name of the configuration, for messages.

    Raises:
      UserError: as `check`; for a protocol that speaks of a field that the model does not have, or of one
        that was given another value.
    """
    check_names(config, source=source)
    errors.check_choice("config.protocol", config.protocol, PROTOCOLS)
    fields = PROTOCOLS[config.protocol] | GEOMETRIES.get((config.protocol, config.data.name), {})
    said = f"config.protocol={config.protocol} sets"
    for name, value in fields.items():
        group, _, field = name.partition(".")
        if trained is not None and group == "model":
            value = trained.model.get(field, config.model.get(field))
        if field not in config[group]:
            model = config.model.get("name", "this study's models")
            raise UserError(
                f"{said} config.{name}, which {model} does not have; choose another model or protocol."
            )
        if given and name in given and given[name] != value:
            raise UserError(
                f"{said} config.{name}={value}, but it is given as {given[name]}; leave one of the two out."
            )
        config[group][field] = value
    check(config, source=source)


def check(config: ConfigDict, *, source: str = "") -> None:
    """Locks a configuration, and refuses the first name or value that cannot work.

    The model, the step and the data sources check their own fields when they are built.

    Args:
      config: with every field.
      source: name of the configuration, for messages.

    Raises:
      UserError: for the first problem.
    """
    check_names(config, source=source)
    values = flatten(config)
    for name, field in FIELDS.items():
        if field.choices:
            errors.check_choice(f"config.{name}", values[name], field.choices)
        if field.low is not None:
            errors.check_range(f"config.{name}", values[name], field.low, high=field.high)
    masks.check(config.mask)
    augment.check_scales(config.data)
    fractions = config.evaluate.fractions
    if not all(isinstance(fraction, int | float) and 0 <= fraction <= 1 for fraction in fractions):
        raise UserError(f"config.evaluate.fractions is {fractions}; give observed shares in [0, 1].")
    config.lock()


def check_names(config: ConfigDict, *, source: str = "") -> None:
    """Refuses a field that there is not, and a configuration that lacks one.

    Args:
      config: whole.
      source: name of the configuration, for messages.

    Raises:
      UserError: that names the field and the nearest that there is.
    """
    where = f" of {source}" if source else ""
    known = {*FIELDS, *(f"study.{name}" for name in STUDY_FIELDS)}
    found = flatten(config)
    for name in found:
        group, _, rest = name.partition(".")
        name = f"study.{rest.partition('.')[0]}" if group == "study" else name
        if group not in ELSEWHERE and name not in known:
            groups = {one.partition(".")[0] for one in known}
            nearest = difflib.get_close_matches(name, known | groups, n=1, cutoff=0)[0]
            raise UserError(f"config.{name}{where} is no field; did you mean config.{nearest}?")
    if missing := [name for name in FIELDS if name not in found]:
        raise UserError(
            f"The configuration{where} lacks config.{missing[0]}; begin with "
            "ifanp_jax.presets.default(), which has every field."
        )


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the fields that differ, one `name: old -> new` each."""
    old_fields, new_fields = flatten(old), flatten(new)
    names = sorted(set(old_fields) | set(new_fields))
    return [
        f"{name}: {old_fields.get(name, 'absent')} -> {new_fields.get(name, 'absent')}"
        for name in names
        if old_fields.get(name) != new_fields.get(name)
    ]


def changes(old: ConfigDict, new: ConfigDict, *, allowed: Sequence[str] = ()) -> list[str]:
    """Lists the `differences` that change a run, less those of the fields (or groups of fields) `allowed`.

    Where the images lie is free; `runs.check_same_images` checks what they are.

    Args:
      old: of the run so far.
      new: asked for now.
      allowed: dotted names such as "train.num_steps", or "train" for all of that group.
    """
    free = [*allowed, *(name for name, field in FIELDS.items() if field.is_free)]
    if "data" in new and new.data.source in LABELLED:
        free.append("data.name")

    def is_free(name):
        return any(name == field or name.startswith(f"{field}.") for field in free)

    return [line for line in differences(old, new) if not is_free(line.partition(":")[0])]


def flatten(config: ConfigDict, *, prefix: str = "") -> dict[str, Any]:
    """Returns dotted names and values; tuples become lists, as in JSON, and an empty group is {}."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields |= flatten(value, prefix=f"{prefix}{name}.") or {prefix + name: {}}
        else:
            fields[prefix + name] = list(value) if isinstance(value, tuple) else value
    return fields
