import functools

import jax
import numpy as np
import pytest

from ifanp_jax.data import sampling, streaming

NUM_IMAGES, BATCH_SIZE, NUM_STEPS = 11, 4, 9
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, 2, 1), np.uint8)
ALL_ROWS = slice(0, BATCH_SIZE)


@pytest.fixture(scope="module")
def list_indices():
    return functools.partial(
        sampling.batch_indices, jax.random.key(0), num_images=NUM_IMAGES, batch_size=BATCH_SIZE
    )


@pytest.fixture(scope="module")
def indices(list_indices):
    compiled = jax.jit(list_indices)
    indices = np.stack([compiled(step) for step in range(NUM_STEPS)])
    assert len(np.unique(indices, axis=0)) > 1  # else a stream that stands still would pass
    return indices


# Steps one by one, all at once, in unequal cuts, and the later ones alone as after a resume.
CUTS = {
    "steps": [(step, 1) for step in range(NUM_STEPS)],
    "at_once": [(0, NUM_STEPS)],
    "unequal": [(0, 3), (3, 1), (4, 4), (8, 1)],
    "resumed": [(5, 2), (7, 2)],
    "nothing_left": [],
}


@pytest.mark.parametrize("rows", [ALL_ROWS, slice(0, 2), slice(1, 4)])
@pytest.mark.parametrize("cut", CUTS)
def test_every_dispatch_gets_the_images_at_the_indices_of_its_steps(list_indices, indices, cut, rows):
    dispatches = CUTS[cut]
    batches = list(streaming.stream(IMAGES, list_indices, dispatches, rows=rows))
    assert len(batches) == len(dispatches)
    for (first, num_steps), batch in zip(dispatches, batches, strict=True):
        assert batch.dtype == np.uint8
        np.testing.assert_array_equal(batch, IMAGES[indices[first : first + num_steps, rows]])


def test_dispatches_keep_their_order_with_many_threads(list_indices, indices):
    dispatches = CUTS["steps"] * 5
    batches = streaming.stream(
        IMAGES, list_indices, dispatches, rows=ALL_ROWS, num_threads=8, num_prefetched=16
    )
    for (first, _), batch in zip(dispatches, batches, strict=True):
        np.testing.assert_array_equal(batch[0], IMAGES[indices[first]])


def test_images_may_be_memory_mapped(tmp_path, list_indices, indices):
    np.save(tmp_path / "train.npy", IMAGES)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    batches = list(streaming.stream(mapped, list_indices, CUTS["unequal"], rows=ALL_ROWS))
    np.testing.assert_array_equal(np.concatenate(batches), IMAGES[indices])


def test_an_error_of_the_reader_reaches_the_caller(list_indices):
    class BrokenImages:
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    batches = streaming.stream(BrokenImages(), list_indices, CUTS["steps"], rows=ALL_ROWS)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
