"""Steps cut into dispatches, and where their images live."""

import dataclasses
import itertools
import types

import jax
import numpy as np

from configs import celeba_ifanp
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch, runs
from tests import tiny


def test_dispatches_hold_every_step_once_and_end_at_every_period():
    every_periods = ((), (0, 0), (5,), (4, 6), (3, 0), (1, 9), (50, 7))
    for (start, end), periods, steps_per_dispatch in itertools.product(
        ((0, 24), (5, 31), (8, 8), (9, 8)), every_periods, (1, 3, 7, 100)
    ):
        check_dispatches(start, end, periods, steps_per_dispatch)


def check_dispatches(start, end, periods, steps_per_dispatch):
    dispatches = list(
        dispatch.list_dispatches(start, end, steps_per_dispatch=steps_per_dispatch, periods=periods)
    )
    steps = [step for first, num_steps in dispatches for step in range(first, first + num_steps)]
    assert steps == list(range(start, end))
    assert all(1 <= num_steps <= steps_per_dispatch for _, num_steps in dispatches)
    ends = {first + num_steps for first, num_steps in dispatches}
    due = {step for step in range(start + 1, end + 1) for period in periods if period and step % period == 0}
    assert due <= ends
    # None ends early without a reason.
    full = {first + steps_per_dispatch for first, _ in dispatches}
    assert ends <= due | full | {end}


PERIODS = (500, 1000)


def choose(config, image_shape=(8, 8, 1)):
    run = runs.make(config, image_shape)
    return dispatch.choose_steps_per_dispatch(
        dataclasses.replace(run, state=runs.abstract_state(run)), PERIODS
    )


def test_configured_steps_per_dispatch_win_and_a_cpu_makes_one(monkeypatch):
    assert choose(tiny.make_config()) == 1
    config = tiny.make_config(**{"train.steps_per_dispatch": 7})
    assert choose(config) == 7
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose(config) == 7


def test_an_accelerator_makes_fewer_steps_per_dispatch_of_larger_batches(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    numbers = []
    for batch_size in (64, 512, 2**16):
        config = celeba_ifanp.get_config()
        config.train.batch_size = batch_size
        numbers.append(choose(config, (32, 32, 3)))
    assert dispatch.MAX_STEPS_PER_DISPATCH >= numbers[0] > numbers[1] > numbers[2] == 1
    assert all(500 % number == 0 for number in numbers)


def test_steps_per_dispatch_divide_the_periods_where_that_costs_little():
    for most, periods, expected in (
        (70, (500, 0, 1000), 50),  # a divisor of both, at least half of what fits
        (70, (100, 150), 50),
        (70, (100, 0), 50),
        (70, (97, 0), 70),  # a prime has no good divisor
        (70, (30, 1000), 30),  # never beyond a period; 10 would divide both but is less than half
        (1e9, (100_000, 0), dispatch.MAX_STEPS_PER_DISPATCH),
        (0.01, (500, 500), 1),  # one step is more than a dispatch should hold
    ):
        assert dispatch.fit_steps(dispatch.DISPATCH_FLOPS / most, periods) == expected


def test_images_are_streamed_where_they_exceed_their_share_of_memory(monkeypatch):
    mesh, images = device_mesh.make_mesh(), np.zeros((10, 10, 10, 1), np.uint8)
    assert dispatch.RESIDENT_FRACTION == 0.25
    for num_bytes, expected in ((4 * 1000, False), (4 * 1000 - 8, True)):
        monkeypatch.setattr(device_mesh, "device_bytes", lambda device, size=num_bytes: size)
        assert dispatch.must_stream(tiny.make_config(), images, mesh) is expected
        # A choice in the configuration wins.
        for placement in ("device", "stream"):
            config = tiny.make_config(**{"data.placement": placement})
            assert dispatch.must_stream(config, images, mesh) is (placement == "stream")


def test_devices_add_up_their_memory(monkeypatch):
    monkeypatch.setattr(device_mesh, "device_bytes", lambda device: 1000)
    mesh = types.SimpleNamespace(size=4, local_devices=[None])
    images = np.zeros((10, 10, 10, 1), np.uint8)
    assert not dispatch.must_stream(tiny.make_config(), images, mesh)
    mesh.size = 3
    assert dispatch.must_stream(tiny.make_config(), images, mesh)
