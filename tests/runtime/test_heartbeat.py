"""What a process finds out of the others; what several real ones do is in test_reliability.py."""

import pytest

from ifanp_jax.runtime import heartbeat
from tests.helpers import run_python


class Store(dict):
    """A store in memory; with `is_gone` it answers as a lost coordinator does."""

    is_gone = False

    def key_value_set(self, key, value, *, allow_overwrite):
        if self.is_gone:
            raise RuntimeError("connection lost")
        self[key] = value

    def key_value_dir_get(self, folder):
        return list(self.items())


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watches(clock):
    """Three processes that share a store, 60 s of silence and 600 s of standstill allowed."""
    store = Store()
    return [
        heartbeat.Watch(
            store, index=index, num_processes=3, heartbeat_seconds=60, stall_seconds=600, clock=clock
        )
        for index in range(3)
    ]


def pass_time(clock, watches, seconds, *, step="0"):
    """Lets these processes live for some time."""
    for _ in range(seconds // 10):
        clock.seconds += 10
        for watch in watches:
            watch.exchange(step)


def test_processes_that_hear_of_each_other_find_no_trouble(clock, watches):
    pass_time(clock, watches, 1000)
    assert [watch.find_trouble("0") for watch in watches] == [None] * 3


def test_silent_processes_are_named(clock, watches):
    pass_time(clock, watches, 100)
    pass_time(clock, watches[:1], 70)  # the first of them hears once more
    assert watches[0].find_trouble("0") is None
    pass_time(clock, watches[:1], 10)
    assert watches[0].find_trouble("0") == "no sign of life from process 1 and process 2"


def test_a_process_that_said_it_is_done_may_be_silent(clock, watches):
    pass_time(clock, watches, 100)
    watches[2].close()
    watches[2].exchange("0")  # a thread that is late does not take it back
    pass_time(clock, watches[:2], 1000)
    assert watches[0].find_trouble("0") is None


def test_a_coordinator_that_does_not_answer_is_told(clock, watches):
    pass_time(clock, watches, 100)
    Store.is_gone = True
    try:
        pass_time(clock, watches, 70)
        watches[1].close()  # says nothing to nobody, and does not fail
    finally:
        Store.is_gone = False
    assert watches[0].find_trouble("0") == "process 0, the coordinator, does not answer"


def test_a_run_that_stands_still_says_where(clock, watches):
    pass_time(clock, watches, 100, step="7")
    assert watches[0].find_trouble("7") is None
    pass_time(clock, watches, 590, step="7")
    assert watches[0].find_trouble("7") is None
    pass_time(clock, watches, 20, step="7")
    where = "this process is at step 7, process 1 at 7, process 2 at 7"
    assert watches[0].find_trouble("7") == f"no step ended any more: {where}"
    assert watches[0].find_trouble("8") is None


def test_nothing_is_stuck_while_no_step_is_due(clock, watches):
    pass_time(clock, watches, 2000)
    assert watches[0].find_trouble("0") is None


# The one part of JAX that is used though it is not public.
CONNECT = """
import jax, socket
from ifanp_jax.runtime import heartbeat
assert heartbeat.find_store() is None  # before there is one
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=1, process_id=0)
store = heartbeat.find_store()
for value in ("first", "second"):
    store.key_value_set("folder/0", value, allow_overwrite=True)
store.key_value_set("folder/1", "other")
print(dict(store.key_value_dir_get("folder")))
"""


def test_jax_still_has_the_key_value_store():
    result = run_python("-c", CONNECT)
    assert result.stdout.strip() == "{'folder/0': 'second', 'folder/1': 'other'}", (
        "jax.distributed.global_state.client.key_value_set or key_value_dir_get are not what they were; "
        f"adapt {heartbeat.__file__}: {result.stderr}"
    )
