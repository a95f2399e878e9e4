"""Runs one peer in the Python that has it: `python worker.py KIND FOLDER`, one JSON line per command.

KIND names a file `KIND_peer.py` beside this one, whose `Peer(task, arrays)` is the peer. FOLDER holds
`task.json` and `task.npz`. It prints a line when its first training step is done, and then answers commands:

| command                            | answer                                               |
|------------------------------------|------------------------------------------------------|
| {"do": "train", "seconds": s}      | `images` and `seconds` of at least so long a training |
| {"do": "complete", "seconds": s}   | `milliseconds` of each completion of the picture     |
| {"do": "check"}                    | nothing; the peer's terms go to `answer.npz`         |

An answer may hold `left_out` instead, with the reason why there is nothing. An empty line ends it.
"""

import importlib
import json
import os
import pathlib
import sys
import time

import numpy as np


def train(peer, command):
    """Does steps for at least so many seconds."""
    started, images = time.monotonic(), 0
    while images == 0 or time.monotonic() - started < command["seconds"]:
        images += peer.train_step()
        peer.wait()  # a queue of steps would go on long after the time is over
    return {"images": images, "seconds": time.monotonic() - started}


def complete(peer, command):
    """Completes the picture until so many seconds have gone by; the first time is not counted unless long."""
    times = []
    while len(times) < 2 or sum(times) < command["seconds"]:
        started = time.monotonic()
        peer.complete()
        times.append(time.monotonic() - started)
        if times[0] > command["seconds"] and peer.is_compiled:
            break
    return {"milliseconds": [1e3 * seconds for seconds in (times[1:] or times)]}


def check(peer, command):
    """Writes the terms of the training's objective."""
    np.savez(command["folder"] / "answer.npz", **peer.terms())
    return {}


COMMANDS = {"train": train, "complete": complete, "check": check}


def answer(peer, command):
    """The answer to one command."""
    try:
        return COMMANDS[command["do"]](peer, command)
    except NotImplementedError as error:
        return {"left_out": str(error)}


def main(kind, folder):
    """Builds the peer, does its first step and answers until the input ends."""
    lines, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not be taken for an answer
    task = json.loads((folder / "task.json").read_text())
    with np.load(folder / "task.npz", allow_pickle=False) as file:
        arrays = dict(file)
    peer = importlib.import_module(f"{kind}_peer").Peer(task, arrays)
    first = answer(peer, {"do": "train", "seconds": 0.0})
    facts = {"finished": time.time(), "threads": len(os.sched_getaffinity(0))} | peer.facts
    print(json.dumps(first | facts), file=lines, flush=True)
    for line in iter(sys.stdin.readline, ""):
        if not line.strip():
            break
        found = answer(peer, json.loads(line) | {"folder": folder})
        print(json.dumps(found), file=lines, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
