"""Completion of whole pictures."""

from benchmarks import pictures
from ifanp_jax.inference import tensors
from tests import tiny


def complete(method, *, size=(10, 12), num_samples=2):
    record = tensors.make_record(tiny.make_config(), (8, 8, 1))
    return pictures.complete_picture(record | {"method": method, "size": size, "num_samples": num_samples})


def test_a_picture_is_completed_twice():
    found = complete(pictures.OURS)
    assert 0 < found["seconds"] < found["first_seconds"] and found["peak_mib"] > 0
    assert found["rounds"] == 1 and found["answer_shape"] == (10, 12, 1)


def test_what_a_method_does_not_take_is_left_out():
    assert "gaussian_process got an image" in complete("gaussian_process", size=(128, 128))["left_out"]


def test_classical_methods_complete_it_too():
    assert complete("biharmonic")["seconds"] > 0
