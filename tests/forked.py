"""Many command lines, each in a fork of one process that has imported the package already.

    python -m tests.forked < [[ARGUMENT, ...], ...] > [[EXIT STATUS, STDOUT, STDERR], ...]

runs them as `ifanp-jax`.
"""

import json
import os
import sys
import tempfile
import traceback

# A command imports what it needs where it needs it: here that is done once for all.
from ifanp_jax import presets  # noqa: F401
from ifanp_jax.evaluation import report  # noqa: F401
from ifanp_jax.study import run as study  # noqa: F401
from ifanp_jax.training import loop  # noqa: F401


def run(command, words):
    """Exit status, output and errors of `command()` with these words as sys.argv; nothing changes here."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _run_and_end(command, words)
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return os.waitstatus_to_exitcode(status), *texts


def _run_and_end(command, words):
    status = 0
    try:
        sys.argv = words
        command()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    from ifanp_jax import main

    print(json.dumps([run(main.run, ["ifanp-jax", *words]) for words in json.load(sys.stdin)]))
