"""Every field of a configuration, once, with its meaning and unit.

Other files in this folder call `get_config` and change what differs. Any field can be set on the command
line, `--config.train.num_steps=2000`; what follows the file's name after a colon is the model,
`--config=configs/celeba.py:point_np.ANP`. Widths, depths, optimiser and likelihood are our choices: the paper
does not give them.
"""

import ml_collections

from ifanp_jax import models
from ifanp_jax.training import steps


def get_config(model: str = "image_np.IFANP") -> ml_collections.ConfigDict:
    """Returns the defaults: a model on the 8x8 digits that scikit-learn carries."""
    config = ml_collections.ConfigDict()
    # "" = as the fields below say; "paper" = random contexts of 30 to 60 %, tested at 20, 40 and 60 %, all
    # pixels as target; "npf" = that of the neural-process-family notebooks: random contexts of 0 to 30 % in
    # training and test, all pixels as target, sigma per pixel with floor 0.01, MNIST and whole CelebA frames
    # resized to 32x32. A protocol overrides the fields it speaks of.
    config.protocol = ""
    config.seed = 0  # parameters, batches, masks and latent samples all follow from it

    # `name`, a file and a class (or variant) of ifanp_jax/models, and the fields of that model, which its
    # docstring explains; those of another family come with its name: --config=configs/digits.py:point_np.ANP.
    config.model = models.get_config(model)

    config.data = _make_data()
    config.mask = _make_mask()

    # `name`, the way of training, a file of ifanp_jax/training/steps ("" = as the model says), and the fields
    # of that step for this model; "elbo" has none here.
    config.step = steps.get_config(models.get(config.model, channels=1))

    config.objective = ml_collections.ConfigDict()
    config.objective.target = "all"  # pixels whose likelihood counts: "all" or "unobserved"
    config.objective.num_samples = 1  # K latent samples per image
    config.objective.kl_weight = 1.0  # 1 = the ELBO
    config.objective.per_value = False  # loss in nats per target value of the batch, not per image

    config.train = _make_train()
    config.evaluate = _make_evaluate()
    return config


def _make_data() -> ml_collections.ConfigDict:
    """Where images come from and what is done to them."""
    data = ml_collections.ConfigDict()
    data.source = "digits"  # "digits", "tfds", "folder" or "arrays"
    # TFDS name for "tfds" ("mnist", "celeb_a", ...), else a label for the tables: where it is left as it is,
    # data of a folder and arrays take the name of where they lie
    data.name = "digits"
    data.dir = ""  # TFDS data_dir, picture folder, or folder of .npy / .npz files
    # side of the square images in pixels, or of a picture's shorter side before it is cut into tiles; 0 = as
    # they are after the crop
    data.image_size = 0
    data.channels = 0  # 1 = grey, 3 = RGB, 0 = as they are
    # side of the central crop before resizing, in pixels; 0 = largest square ("digits" and "arrays": no crop)
    data.crop_size = 0
    data.crop_box = ()  # or a fixed crop (top, left, height, width) in pixels; () = central
    # "folder": cut whole pictures into squares of this side in pixels, or of image_size where that is less;
    # 0 = crop them
    data.tile_size = 0
    data.train_split = "train"  # TFDS split, stem of the array file, or sub-folder of pictures
    data.eval_split = "test"  # held-out split for validation and the evaluation tables
    data.eval_fraction = 0.1  # "folder" without a partition file: share of held-out pictures
    # "folder": CelebA's list_eval_partition.txt; 0 = train, eval_split "val" or "test" names 1 or 2
    data.partition_file = ""
    data.max_train_images = 0  # keep only the first so many; 0 = all
    data.max_eval_images = 0
    data.cache_dir = ""  # decoded images; "" = the user's cache directory
    # training images on the "device" (shared among the devices), a "stream" from the host, or "auto": a
    # stream where they would take more than a quarter of the devices' memory; the batches are the same
    data.placement = "auto"
    data.random_crop = 0  # side of random training crops, in pixels; 0 = whole images
    data.flips = "none"  # of training images: "horizontal", or "all" symmetries of a square
    return data


def _make_mask() -> ml_collections.ConfigDict:
    """Contexts in training."""
    mask = ml_collections.ConfigDict()
    # "random" pixels (the paper), a half ("top", "bottom", "left", "right"), all but a box ("box_center",
    # "box_random"), a "file", "mixed": random pixels for 3 images in 4, else a half or a random box,
    # "varied": for each image a kind of its own by `shares`, and an observed share of its own, or
    # "inpainting": for each image a hole of the inpainters' papers by `hole_shares`
    mask.kind = "random"
    # observed share of pixels: one value, or a range drawn anew at every step ("varied": for every image)
    mask.fraction = (0.3, 0.6)
    mask.shares = ml_collections.ConfigDict(  # "varied": of the images, in expectation
        {"random": 0.65, "half": 0.15, "box": 0.1, "strokes": 0.1}
    )
    # "inpainting", in expectation: a rectangle of half the side or a little less, free-form strokes, the
    # centre square (or 1/64 smaller on each side), half of the image, or all but 10 to 50 % of the pixels
    mask.hole_shares = ml_collections.ConfigDict(
        {"box": 1.0, "strokes": 0.0, "centre": 0.0, "centre_overlap": 0.0, "half": 0.0, "pixels": 0.0}
    )
    mask.file = ""  # "file": picture or .npy, white or True = observed
    return mask


def _make_train() -> ml_collections.ConfigDict:
    """Optimiser, schedule, logs and checkpoints."""
    train = ml_collections.ConfigDict()
    # start from the parameters of a trained model, not from drawn ones: the name of a shipped one ("photos"),
    # or the folder of a training or of an export; read at a fresh start alone, never by a run that goes on
    train.init_from = ""
    train.num_steps = 1500
    train.batch_size = 64  # images, over all devices
    # optimiser steps per call of the device; 0 = one on a CPU, 0.1 to 1 s of them on an accelerator
    train.steps_per_dispatch = 0
    # "adam" for all, or "muon" for kernels (orthogonalised momentum) and Adam for the rest
    train.optimizer = "adam"
    train.learning_rate = 3e-3  # peak
    train.adam_share = 0.3  # "muon": learning rate of the parameters left to Adam, as a share
    train.warmup_steps = 100  # linear from 0; then cosine to 0 at num_steps
    train.weight_decay = 0.0  # AdamW; 0 = Adam
    train.max_grad_norm = 1.0  # clip by global norm; 0 = never
    train.ema_decay = 0.0  # evaluate a moving average of the parameters; 0 = the parameters
    train.log_every = 50  # steps
    train.validate_every = 500  # steps; 0 = never
    train.checkpoint_every = 500  # steps
    train.checkpoint_minutes = 10.0  # also save when so many minutes went by; 0 = never
    train.num_checkpoints = 3  # newest checkpoints kept
    train.keep_every = 0  # and for ever those of every so many steps; 0 = none
    return train


def _make_evaluate() -> ml_collections.ConfigDict:
    """The test protocol."""
    evaluate = ml_collections.ConfigDict()
    evaluate.seed = 0  # contexts, latent samples and bootstrap; the same for every model
    evaluate.fractions = (0.2, 0.4, 0.6)  # of random context pixels
    # also contexts whose share is drawn for each image from 0 to this; 0 = none
    evaluate.uniform_fraction = 0.0
    evaluate.halves = True  # also top, bottom, left and right half as context
    evaluate.num_images = 0  # first held-out images; 0 = all
    evaluate.num_samples = 8  # latent samples: prediction = mean, log_prob = importance-weighted
    # also measure samples by so many rounds, and the joint log-likelihood by them; 0 = leave them out
    evaluate.rounds = 0
    evaluate.rounds_images = 64  # first held-out images whose samples are drawn by rounds
    evaluate.batch_size = 64  # images; does not change any number
    evaluate.classical_images = 1000  # at most, for the interpolation baselines; 0 = none
    evaluate.figure_images = 6  # rows of completions.png
    return evaluate
