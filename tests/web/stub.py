"""A model for tests of the page, where what it answers does not matter."""

import threading
import time

import numpy as np

from ifanp_jax.inference.arguments import Options
from ifanp_jax.inference.result import CompletionResult


class Stub:
    """Completes with a constant; waits for `go`, says by `begun` that it runs."""

    step = 7
    image_shape = (4, 4, 3)
    rounds_taken = 2  # where nobody says how many
    untrained = ()  # of the result

    def __init__(self, error=None, *, num_tiles=0):
        self.num_tiles = num_tiles
        self.go, self.begun, self.error, self.calls = threading.Event(), threading.Event(), error, []
        self.go.set()

    def make_options(self, num_samples, seed, size, *, rounds, temperature, uncertainty):
        return Options(num_samples, seed, size, 2 if rounds is None else rounds, temperature, uncertainty)

    def complete(self, image, mask, *, num_samples, seed, size, rounds, on_progress):
        if self.num_tiles:
            for done in range(self.num_tiles):
                on_progress(done, self.num_tiles, 2.0 if done > 1 else None)
                self.begun.set()
                time.sleep(0.05)
        self.begun.set()
        self.calls.append((num_samples, seed, size, rounds, mask))
        assert self.go.wait(20)
        if self.error:
            raise self.error
        constant = np.full(image.shape, 0.5, np.float32)
        samples = np.stack([constant] * num_samples)
        parts = {"samples": samples, "mean": constant, "uncertainty": constant / 4, "raw_samples": samples}
        return CompletionResult(**parts, rounds=rounds or self.rounds_taken, untrained=self.untrained)
