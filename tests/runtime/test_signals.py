"""Signals, in processes of their own; what trainings do then is in test_reliability.py."""

import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT

# Prints a line for each thing that happens; a signal is answered by a thread while the main thread computes.
CODE = """
import time
from ifanp_jax.runtime import signals

def say(text):
    print(text, flush=True)

def wait():
    for _ in range(3000):
        if signals.received():
            return
        time.sleep(0.01)

signals.install()
signals.install()  # a second time changes nothing
{body}
say("end")
"""
DEFERRED = """
with signals.deferred():
    say("ready")
    wait()
    say(f"received {signals.received()}")
    {inside}
"""


def start(body):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", CODE.replace("{body}", body)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_deferred_signal_is_noted_and_ends_the_process_after_the_work(number, status):
    process = start(DEFERRED.replace("{inside}", "say('saved')"))
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (output, process.returncode) == (f"received {number}\nsaved\n", status)
    assert "what is under way is saved" in errors


def test_a_second_signal_ends_the_process_at_once():
    process = start(DEFERRED.replace("{inside}", "time.sleep(60)"))
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "received 15\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "" and process.returncode == 130


def test_elsewhere_a_signal_ends_the_process_at_once():
    process = start("say('ready')\ntime.sleep(60)")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "" and process.returncode == 143


def test_without_a_signal_nothing_happens():
    with start("with signals.deferred():\n    say('ready')") as process:
        assert process.stdout.read() == "end\n"  # communicate() would miss what is in the buffer by now
    assert process.returncode == 0
