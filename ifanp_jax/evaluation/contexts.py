"""Contexts: a name, and for every held-out image a mask of what methods see of it; the same for all methods.

Random pixels and halves follow from the seed and are drawn anew. Holes are kept: `contexts.npz` in a working
directory holds their masks by kind, bool (N, H, W, 1), True = observed, in the order of the images. A later
evaluation there reads them, so a method outside this package can meet the same ones, and a file with masks of
any other names may be put there before the first evaluation.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import files
from ifanp_jax.data import masks
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.options import Options
from ifanp_jax.runtime import device_mesh

FILE_NAME = "contexts.npz"
HOLE_KINDS = ("centre", "box", "strokes")  # of `masks.HOLES`
SCATTERED = ("random", "uniform")
HOLES_AT_ONCE = 64  # images; strokes take several maps of each


@dataclasses.dataclass(frozen=True)
class Context:
    """What is observed of every image.

    Attributes:
      kind: "random", "uniform" (a share drawn for each image), a half, or a kind of hole.
      fraction: observed share of an image: exactly, at most for "uniform", on average for holes.
      masks: bool (N, H, W, 1), True = observed.
    """

    kind: str
    fraction: float
    masks: np.ndarray

    @property
    def is_hole(self) -> bool:
        """Whether hole metrics are measured and classical methods for holes are compared."""
        return self.kind not in (*SCATTERED, *masks.HALVES)

    @property
    def name(self) -> str:
        """Under which `evaluation.npz` holds the values per image, such as "random 0.2" or "strokes"."""
        return self.kind if self.is_hole else f"{self.kind} {self.fraction:g}"

    @property
    def sha256(self) -> str:
        """The masks' name: SHA-256 of the shape (int64, little-endian) and of the bits, packed in order."""
        shape = np.asarray(self.masks.shape, "<i8").tobytes()
        return hashlib.sha256(shape + np.packbits(self.masks).tobytes()).hexdigest()

    def first(self, count: int) -> Self:
        """The context of the first images alone."""
        return dataclasses.replace(self, masks=self.masks[:count])


Contexts = dict[str, Context]  # by name


def load_contexts(
    options: Options, shape: tuple[int, int, int], *, folder: str | pathlib.Path | None = None
) -> Contexts:
    """Draws the contexts of an evaluation; holes are read where the folder keeps some.

    Args:
      options: which ones, and the seed.
      shape: (N, H, W) of the images.
      folder: of the run or study; None = nothing is read.

    Raises:
      UserError: when the file is damaged, or does not fit the images.
    """
    found = [
        make_context(kind, shape, fraction=fraction, seed=options.seed) for kind, fraction in _list(options)
    ]
    if options.has_holes:
        path = None if folder is None else pathlib.Path(folder) / FILE_NAME
        if path is not None and path.is_file():
            found += read_holes(path, shape)
        else:
            found += [make_context(kind, shape, seed=options.seed) for kind in HOLE_KINDS]
    return {context.name: context for context in found}


def _list(options):
    """Kind and observed fraction of the contexts that are no holes."""
    found = [("random", float(fraction)) for fraction in options.fractions]
    if options.uniform_fraction:
        found.append(("uniform", float(options.uniform_fraction)))
    return found + [(side, 0.5) for side in masks.HALVES] if options.halves else found


def make_context(
    kind: str, shape: tuple[int, int, int], *, seed: int, fraction: float | None = None
) -> Context:
    """Draws one context; image i has the same mask in every evaluation, whatever the number of images.

    Args:
      kind: "random", "uniform", a half, or one of `masks.HOLES`.
      shape: (N, H, W).
      seed: of the draws.
      fraction: observed share of "random", largest one of "uniform"; the others have their own.
    """
    if kind in SCATTERED:
        drawn = _scatter(kind, shape, fraction, seed)
    elif kind in masks.HALVES:
        drawn, fraction = np.asarray(masks.half(kind, shape)), 0.5
    else:
        drawn = _draw_holes(kind, shape, seed)
        fraction = _mean(drawn)
    return Context(kind, fraction, drawn)


def _scatter(kind, shape, fraction, seed):
    n, h, w = shape
    count = masks.count_pixels(fraction, h, w)
    context_key = jax.random.fold_in(jax.random.key(seed), count)
    keys = jax.vmap(lambda index: jax.random.fold_in(context_key, index))(jnp.arange(n))

    def draw(key):
        if kind == "random":
            return masks.random(key, (1, h, w), count)[0]
        count_key, place_key = jax.random.split(key)
        return masks.random(place_key, (1, h, w), jax.random.randint(count_key, (), 0, count + 1))[0]

    return np.asarray(jax.jit(jax.vmap(draw))(keys))


def _draw_holes(kind, shape, seed):
    n, h, w = shape
    key = jax.random.fold_in(jax.random.key(seed), masks.HOLES.index(kind))
    drawn = [np.asarray(_draw_some(kind, (h, w), key, first)) for first in range(0, n, HOLES_AT_ONCE)]
    return np.concatenate(drawn or [np.empty((0, h, w, 1), bool)])[:n]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_some(kind, size, key, first):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(HOLES_AT_ONCE))
    return jax.vmap(lambda key: masks.inpainting(key, (1, *size), {kind: 1.0})[0])(keys)


def _mean(drawn):
    return float(drawn.mean()) if drawn.size else 1.0


def keep_holes(contexts: Contexts, folder: str | pathlib.Path) -> None:
    """Writes the holes, whole or not at all, where the folder keeps none yet."""
    path, holes = pathlib.Path(folder) / FILE_NAME, list_holes(contexts.values())
    if not holes or path.is_file() or not device_mesh.is_first_process():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **{context.kind: context.masks for context in holes})


def list_holes(contexts: Iterable[Context]) -> list[Context]:
    """Those that are holes."""
    return [context for context in contexts if context.is_hole]


def read_holes(path: str | pathlib.Path, shape: tuple[int, int, int]) -> list[Context]:
    """Reads holes.

    Args:
      path: of a file as `keep_holes` makes it, or of another with an array (N, H, W) or (N, H, W, 1) for each
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
        if name in (*SCATTERED, *masks.HALVES):
            raise UserError(f"{path} calls a kind of hole {name}, which has another meaning; rename it.")
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
    holes = {name: mask[:n].reshape(n, h, w, 1) != 0 for name, mask in found.items()}
    return [Context(name, _mean(mask), mask) for name, mask in holes.items()]
