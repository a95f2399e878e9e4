import errno

import pytest

from ifanp_jax import errors
from ifanp_jax.errors import PassingError, UserError


def test_first_line():
    assert errors.first_line(ValueError(" one.\ntwo.")) == "one"
    assert errors.first_line(KeyError()) == "KeyError"


def test_errors_of_files_that_may_pass_ask_for_a_new_start():
    assert errors.of_file(errno.ENOSPC, "full").exit_status == 1
    assert errors.of_file(errno.EIO, "broken").exit_status == errors.PASSING_STATUS


def test_a_full_device_is_told_with_advice():
    @errors.full_device("lower it")
    def compute(error):
        raise error

    with pytest.raises(UserError) as caught:
        compute(RuntimeError("RESOURCE_EXHAUSTED: Out of memory.\nmore"))
    assert str(caught.value) == (
        "the device has too little memory (RESOURCE_EXHAUSTED: Out of memory); lower it."
    )
    for error in (RuntimeError("other"), PassingError("RESOURCE_EXHAUSTED of a message")):
        with pytest.raises(type(error)) as caught:
            compute(error)
        assert caught.value is error


def test_advice_of_what_is_inside_comes_first():
    with pytest.raises(UserError, match=r"lower the inner one\.$"):
        with errors.full_device("lower the outer one"), errors.full_device("lower the inner one"):
            raise RuntimeError("RESOURCE_EXHAUSTED")
