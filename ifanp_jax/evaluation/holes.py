"""The holes that inpainting is tested with: drawn once, named by a hash, and kept beside what was evaluated.

`holes.npz` holds masks by kind, bool (N, H, W, 1), True = observed, one per held-out image in their order. A
later evaluation in the same folder reads them, so every method meets the same ones; a file with other masks,
of any names, may be put there before the first evaluation.
"""

import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import files
from ifanp_jax.data import masks
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.metrics import inpainting

Holes = dict[str, np.ndarray]  # kind -> bool (N, H, W, 1), True = observed

KINDS = ("centre", "box", "strokes")  # of `masks.HOLES`
FILE_NAME = "holes.npz"
DRAWN_AT_ONCE = 64  # images; strokes take several maps of each


def are_evaluated(config: ConfigDict) -> bool:
    """Whether a configuration tests its model over holes: where it also trains with them.

    Args:
      config: the whole configuration.
    """
    return config.mask.kind == "inpainting"


def draw(kind: str, shape: tuple[int, int, int], *, seed: int) -> np.ndarray:
    """Draws the holes of one kind; image i has the same one whatever the number of images.

    Args:
      kind: of `masks.HOLES`.
      shape: (N, H, W).
      seed: `config.evaluate.seed`.

    Returns:
      bool (N, H, W, 1), True = observed.
    """
    n, h, w = shape
    key = jax.random.fold_in(jax.random.key(seed), masks.HOLES.index(kind))
    drawn = [np.asarray(_draw_some(kind, (h, w), key, first)) for first in range(0, n, DRAWN_AT_ONCE)]
    return np.concatenate(drawn or [np.empty((0, h, w, 1), bool)])[:n]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_some(kind, size, key, first):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(DRAWN_AT_ONCE))
    return jax.vmap(lambda key: masks.inpainting(key, (1, *size), {kind: 1.0})[0])(keys)


def keep(
    config: ConfigDict, dataset: Dataset, folder: str | pathlib.Path | None, *, given: Holes | None = None
) -> Holes:
    """Reads the holes of a folder; where there are none, takes those given, or draws them, and writes them.

    Args:
      config: the whole configuration; uses `evaluate`.
      dataset: its held-out images are tested.
      folder: of the run or study; None = nothing is read or written.
      given: holes of a study.

    Returns:
      Holes of the held-out images that are tested, by kind; none where `are_evaluated` is not so.

    Raises:
      UserError: when the file is damaged, or does not fit the images.
    """
    if not are_evaluated(config):
        return {}
    shape = dataset.evaluation[: config.evaluate.num_images or None].shape[:3]
    path = None if folder is None else pathlib.Path(folder) / FILE_NAME
    if path is not None and path.is_file():
        return read(path, shape)
    found = given or {kind: draw(kind, shape, seed=config.evaluate.seed) for kind in KINDS}
    if path is not None and jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, found)
    return found


def write(path: str | pathlib.Path, holes: Mapping[str, np.ndarray]) -> None:
    """Writes holes, whole or not at all.

    Args:
      path: of the file.
      holes: bool (N, H, W, 1) by kind, True = observed.
    """
    with files.replacing(pathlib.Path(path)) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **holes)


def read(path: str | pathlib.Path, shape: tuple[int, int, int]) -> Holes:
    """Reads holes.

    Args:
      path: of a file as `write` makes it, or of another with one array (N, H, W) or (N, H, W, 1) for each
        kind of hole; what is not 0 is observed.
      shape: (N, H, W) of the images; holes of further images are left out.

    Raises:
      UserError: when it cannot be read, or holds too few masks or masks of another size.
    """
    try:
        with (
            pathlib.Path(path).open("rb") as file,  # NumPy leaves it open when it is damaged
            np.load(file, allow_pickle=False) as archive,
        ):
            found = {name: archive[name] for name in archive.files}
    except (*files.DAMAGED, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it, or remove it to draw anew.") from None
    n, h, w = shape
    for name, mask in found.items():
        if mask.ndim not in (3, 4) or mask.shape[3:] not in ((), (1,)) or mask.dtype.kind not in "biuf":
            raise UserError(
                f"{name} in {path} holds {mask.dtype} of shape {mask.shape}; give numbers or booleans "
                "(N, H, W, 1)."
            )
        if mask.shape[1:3] != (h, w) or len(mask) < n:
            raise UserError(
                f"{name} in {path} holds {len(mask)} masks of {mask.shape[1]}x{mask.shape[2]} pixels, but "
                f"the evaluation has {n} images of {h}x{w}; give as many, or remove the file to draw anew."
            )
    return {name: mask[:n].reshape(n, h, w, 1) != 0 for name, mask in found.items()}


def describe(holes: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The SHA-256 of each kind's masks, as tables and other projects name them.

    Args:
      holes: bool (N, H, W, 1) by kind, True = observed.
    """
    return {kind: inpainting.hash_masks(mask) for kind, mask in holes.items()}
