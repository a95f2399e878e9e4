"""A model for tests of the page, where what it answers does not matter."""

import dataclasses
import threading
import time

import numpy as np

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
        self.options, self.notes, self.completed = [], (), None

    def with_rounds(self, options):
        return dataclasses.replace(options, rounds=2 if options.rounds is None else options.rounds)

    def complete(self, image, mask, *, options, on_progress):
        if self.num_tiles:
            for done in range(self.num_tiles):
                on_progress(done, self.num_tiles, 2.0 if done > 1 else None)
                self.begun.set()
                time.sleep(0.05)
        self.begun.set()
        self.options.append(options)
        self.calls.append((options.num_samples, options.seed, options.size, options.rounds, mask))
        assert self.go.wait(20)
        if self.error:
            raise self.error
        constant = np.full(image.shape, 0.5, np.float32)
        samples = np.stack([constant] * options.num_samples)
        parts = {"samples": samples, "mean": constant, "uncertainty": constant / 4, "raw_samples": samples}
        told = {"untrained": self.untrained, "notes": self.notes, "completed": self.completed}
        told["alternatives"] = np.stack([constant / 2] * (options.num_completed - 1) or [constant])[
            : options.num_completed - 1
        ]
        return CompletionResult(**parts, **told, rounds=options.rounds or self.rounds_taken)
