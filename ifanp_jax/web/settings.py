"""Limits of the server, and the model that it serves."""

import dataclasses

from ifanp_jax.inference.model import Model


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one server takes."""

    max_bytes: int = 64 * 2**20  # of the body of one request
    # Of all bodies that are read or wait; and of answers that are being sent while the next one is computed.
    max_bytes_in_all: int = 256 * 2**20
    max_pixels: int = 16_000_000  # of one picture
    max_samples: int = 16  # answers of one request
    max_rounds: int = 64  # of one request
    max_answer_pixels: int = 16_000_000  # answers * pixels of one request
    max_jobs: int = 64  # requests that are read, wait or run; one runs at a time
    upload_seconds: float = 60  # from the first byte of a body to its last
    answer_seconds: float = 300  # from the last byte of a body to the answer, the wait included
    send_seconds: float = 120  # from the first byte of an answer to its last
    max_programs: int = 32  # compiled ones that are kept, one per size of picture and number of answers


DEFAULT_SETTINGS = Settings()


@dataclasses.dataclass(frozen=True)
class Served:
    """A model and how a person names it elsewhere."""

    model: Model
    name: str  # for the page
    flag: str  # on the command line, such as "--workdir=runs/digits"
    python: str  # makes it, such as 'ifanp_jax.load("runs/digits")'
