"""What the terminal shows while a model trains."""

import logging
import re

import pytest

from ifanp_jax.training.log import Progress


@pytest.mark.parametrize("steps_per_second", [0.00335, 0.0996, 0.84, 12.34, 1234.5])
def test_the_two_speeds_of_the_line_agree(caplog, steps_per_second):
    progress = Progress(10, step=0, is_shown=True)
    with caplog.at_level(logging.INFO, logger="ifanp_jax"):
        progress.show(10, "loss 1", steps_per_second, 64)
    progress.close()
    steps, images = re.search(r"([\d.,]+) steps/s  ([\d.,]+) images/s", caplog.text).groups()
    numbers = [float(text.replace(",", "")) for text in (steps, images)]
    assert numbers[1] == pytest.approx(64 * numbers[0], rel=0.01)
