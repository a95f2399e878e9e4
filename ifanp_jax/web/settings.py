"""Limits of the server, and the model that it serves."""

import dataclasses

from ifanp_jax.inference.model import Model


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one server takes.

    Attributes:
      max_bytes: of the body of one request.
      max_bytes_in_all: of all bodies that are read or wait; and of answers that are being sent while the
        next one is computed.
      max_pixels: of one picture.
      max_samples: answers of one request.
      max_rounds: of one request.
      max_answer_pixels: answers * pixels of one request.
      max_jobs: requests that are read, wait or run; one runs at a time.
      upload_seconds: from the first byte of a body to its last.
      answer_seconds: from the last byte of a body to the answer, the wait included.
      send_seconds: from the first byte of an answer to its last.
      max_programs: compiled programs that are kept, one per size of picture and number of answers.
    """

    max_bytes: int = 64 * 2**20
    max_bytes_in_all: int = 256 * 2**20
    max_pixels: int = 16_000_000
    max_samples: int = 16
    max_rounds: int = 64
    max_answer_pixels: int = 16_000_000
    max_jobs: int = 64
    upload_seconds: float = 60
    answer_seconds: float = 300
    send_seconds: float = 120
    max_programs: int = 32


DEFAULT_SETTINGS = Settings()


@dataclasses.dataclass(frozen=True)
class Served:
    """A model and how a person names it elsewhere.

    Attributes:
      model: completes.
      name: of the model, for the page.
      flag: names it on the command line, such as "--workdir=runs/digits".
      python: makes it in Python, such as 'ifanp_jax.load("runs/digits")'.
    """

    model: Model
    name: str
    flag: str
    python: str
