"""Checkpoints of the training state; the only file that knows Orbax.

    checkpoints/step_12/state/           the arrays, as Orbax writes them
                        checkpoint.json  format, step, configuration, names and types of the arrays
                        SHA256SUMS       of every other file, written last; `sha256sum -c` reads it too

A step is written as `unfinished_12` and renamed when it is whole, so what bears the name of a step and does
not match its checksums was damaged later.
"""

import concurrent.futures
import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import re
import shutil
from typing import Any

import flax
import jax
import orbax.checkpoint
from orbax.checkpoint import v1 as ocp

from ifanp_jax import errors
from ifanp_jax.errors import PassingError, UserError
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import checksums
from ifanp_jax.version import __version__

logger = logging.getLogger(__name__)

FORMAT = 1  # of the records of checkpoints and of `run.json`
RECORD_FILE = "checkpoint.json"
ARRAYS_FOLDER = "state"
LOCK_FILE = ".lock"  # beside the folder of the checkpoints
STEP_NAME = re.compile(r"step_(\d+)")
_NONE, _FAILED = -1, -2  # what process 0 may answer in place of a step


def exists(workdir: str | pathlib.Path) -> bool:
    """Whether a working directory holds checkpoints, good or damaged."""
    directory = pathlib.Path(workdir) / "checkpoints"
    return directory.is_dir() and any(not path.name.startswith("unfinished_") for path in directory.iterdir())


class Checkpoints:
    """The checkpoints of one working directory.

    Saving is asynchronous and atomic; a save that fails is told, and may be made good by the next one.
    Restoring verifies: a damaged step is set aside as `damaged_12` and the one before is taken; where none is
    whole, it is an error, never a fresh start.
    """

    def __init__(self, workdir: str | pathlib.Path, *, num_kept: int, keep_every: int = 0, is_writer: bool):
        """Opens `workdir/checkpoints`.

        Args:
          workdir: made where missing.
          num_kept: newest steps kept.
          keep_every: steps that are a multiple of it are kept as well; 0 = none.
          is_writer: only a training may write: that removes what an interrupted save left.

        Raises:
          PassingError: when another training writes to this directory.
        """
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self._num_kept, self._keep_every = num_kept, keep_every
        self._is_writer = is_writer
        self._executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending = None  # the save under way: its step and its future
        self._has_failed = False  # the save before
        self._lock = None
        if is_writer and device_mesh.is_first_process():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._directory.with_name(LOCK_FILE))
            for path in self._directory.glob("unfinished_*"):
                shutil.rmtree(path, ignore_errors=True)

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Saves in the background, after the save before is on disk or has failed.

        Args:
          step: optimiser steps done, more than at any save before.
          state: may be donated as soon as this returns.
          record: JSON values for `checkpoint.json`, such as the configuration.

        Raises:
          UserError: when the two saves before failed, or this one fails at once.
        """
        self._settle()
        unfinished = self._directory / f"unfinished_{step}"
        tree = _to_tree(state)
        record = {"format": FORMAT, "step": step, "arrays": _describe(tree), "versions": _versions()} | record
        text = json.dumps(record, indent=1) + "\n"  # now: the caller may go on changing it
        try:
            if device_mesh.is_first_process():
                unfinished.mkdir(mode=0o700)
            response = ocp.save_async(unfinished / ARRAYS_FOLDER, tree)
        except Exception as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise self._explain(step, error) or error from None
        self._pending = step, self._executor.submit(self._finish, step, response, unfinished, text)

    def must_save_again(self) -> bool:
        """Whether the save under way has failed by now, so that the caller had better save at once.

        Raises:
          UserError: when the one before failed too.
        """
        if self._pending is None or not self._pending[1].done():
            return False
        self._settle()
        return self._has_failed

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
          UserError: when the newest state could not be written.
        """
        self._settle(is_last=True)

    def _settle(self, *, is_last=False):
        """Waits for the save under way. Where it fails, that is told once; raised if it has no successor."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            problem = self._explain(step, error)
            if problem is None:  # a lost process
                raise
            if is_last or self._has_failed:
                raise problem from None
            logger.warning("%s", problem)
            self._has_failed = True
        else:
            self._has_failed = False

    def restore(
        self, abstract_state: Any, sharding: jax.sharding.Sharding
    ) -> tuple[Any, dict[str, Any]] | None:
        """The state of the newest step that is whole, and its record; None where nothing was ever saved.

        Args:
          abstract_state: shapes and dtypes, from `jax.eval_shape`.
          sharding: of every array.

        Raises:
          UserError: when no step is whole, or its arrays are not those of the state.
        """
        step = self._agree_on_step()
        if step is None:
            return None
        path = self._path(step)
        record = _read_record(path)
        tree = _to_tree(abstract_state)
        _check_arrays(path, record, tree)
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
        try:
            restored = ocp.load(path / ARRAYS_FOLDER, abstract)
        except Exception as error:
            if jax.process_count() > 1:
                raise  # a lost process is as likely
            code = _file_system_code(error)
            reason = os.strerror(code) if code else errors.first_line(error)
            message = (
                f"Step {step} in {path} cannot be read ({reason}); it was written with {record['versions']}: "
                "install these versions, or remove the step to go on from the one before."
            )
            raise (errors.of_file(code, message) if code else UserError(message)) from None
        return abstract_state.replace(**restored), record

    def close(self) -> None:
        """Waits until everything is on disk; raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._executor.shutdown()
            if self._lock:
                self._lock.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.close()
        except Exception as second:
            if error is None:
                raise
            logger.warning("%s", second)  # the first error is the one to tell

    def _finish(self, step, response, unfinished, record_text):
        """In the background: waits for the arrays, adds the record and the checksums, and names the step."""
        try:
            response.result()
            if not device_mesh.is_first_process():
                return
            (unfinished / RECORD_FILE).write_text(record_text)
            checksums.write(unfinished)
            for path in unfinished.rglob("*"):
                path.chmod(0o700 if path.is_dir() else 0o600)
                checksums.flush(path)
            checksums.flush(unfinished)
            unfinished.rename(self._directory / f"step_{step}")
            checksums.flush(self._directory)  # now it outlives the machine: older ones may go
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)  # it may be what filled the disk
            raise
        self._remove_old()

    def _remove_old(self):
        for step in self._list_steps()[: -self._num_kept]:
            if self._keep_every and step % self._keep_every == 0:
                continue
            # Renamed first: half removed it would look damaged.
            unfinished = self._directory / f"unfinished_removal_{step}"
            try:
                self._path(step).rename(unfinished)
                shutil.rmtree(unfinished)
            except OSError as error:  # a reader may have it open; the next start removes it
                logger.warning("Step %d cannot be removed: %s.", step, error.strerror)

    def _agree_on_step(self):
        """The step that process 0 found whole, in every process; None where nothing was ever saved."""
        problem, step = None, _NONE
        if device_mesh.is_first_process():
            try:
                step = self._find_whole_step()
            except (UserError, OSError) as error:
                problem, step = error, _FAILED
        step = device_mesh.agree(step)
        if problem:
            raise problem
        if step == _FAILED:
            raise UserError("Process 0 found no checkpoint that can be read; see its message.")
        return None if step == _NONE else step

    def _find_whole_step(self):
        """The newest step that is whole, or `_NONE`; damaged ones before it are set aside."""
        problems = {}
        for step in reversed(self._list_steps()):
            problem = checksums.find_damage(self._path(step), required=(RECORD_FILE,))
            if problem is None:
                for damaged, reason in problems.items():
                    self._set_aside(damaged, reason)
                return step
            problems[step] = problem
        if problems or any(self._directory.glob("damaged_*")):
            listed = "; ".join(f"step {step}: {problem}" for step, problem in problems.items())
            raise UserError(
                f"{self._directory} holds damaged checkpoints only ({listed or 'set aside'}); put a good "
                "copy back as step_N, or choose another workdir to start anew."
            )
        return _NONE

    def _set_aside(self, step, reason):
        path = self._path(step)
        if not self._is_writer:
            logger.warning("Step %d is damaged: %s; an older one is used.", step, reason)
            return
        target, count = self._directory / f"damaged_{step}", 1
        while target.exists():
            count += 1
            target = self._directory / f"damaged_{step}_{count}"
        path.rename(target)
        logger.warning("Step %d is damaged: %s; it was set aside as %s.", step, reason, target)

    def _list_steps(self):
        matches = [STEP_NAME.fullmatch(path.name) for path in self._directory.glob("step_*")]
        return sorted(int(match[1]) for match in matches if match)

    def _path(self, step):
        return self._directory / f"step_{step}"

    def _explain(self, step, error):
        """What the file system said, as an error of one sentence; None where it was not that."""
        code = _file_system_code(error)
        if code is None:
            return None
        steps = self._list_steps()
        last = f"the last one on disk is step {steps[-1]}" if steps else "there is none on disk yet"
        return errors.of_file(
            code,
            f"The checkpoint of step {step} cannot be written to {self._directory} ({os.strerror(code)}); "
            f"{last}: make room or make the folder writable, and run the same command again.",
        )


def _lock(path):
    """The open file that keeps other trainings out; the system lets go of it when the process ends."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise PassingError(
            f"Another training writes to {path.parent}; wait until it ends or choose another workdir."
        ) from None
    except OSError as error:  # a file system without locks
        logger.debug("%s is not locked: %s.", path, error.strerror)
    return file


def _to_tree(state: Any) -> dict[str, Any]:
    """The fields of a state, a Flax dataclass, by name."""
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _describe(tree: Any) -> dict[str, str]:
    """Dtype and shape by name of every array, such as "params/decoder/kernel": "float32[3,3,8,8]"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{x.dtype}[{','.join(map(str, x.shape))}]"
        for path, x in leaves
    }


def _versions():
    modules = {"jax": jax, "flax": flax, "orbax": orbax.checkpoint}
    return {"ifanp_jax": __version__} | {name: module.__version__ for name, module in modules.items()}


def _read_record(path):
    record = json.loads((path / RECORD_FILE).read_text())
    check_format(path, record["format"])
    return record


def check_format(path: pathlib.Path, number: int) -> None:
    """Raises a UserError where a record is of another version's format."""
    if number != FORMAT:
        raise UserError(
            f"{path} has format {number}, but this version reads {FORMAT}: take the version of the package "
            "that wrote it."
        )


def _check_arrays(path, record, tree):
    """Orbax would cast another dtype in silence."""
    saved, expected = record["arrays"], _describe(tree)
    if saved == expected:
        return
    names = [name for name in sorted({*saved, *expected}) if saved.get(name) != expected.get(name)]
    listed = "; ".join(
        f"{name}: {saved.get(name, 'absent')} -> {expected.get(name, 'absent')}" for name in names[:8]
    )
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    raise UserError(
        f"{path} holds other arrays than this model and optimiser have ({listed}{more}); set the "
        "configuration back or choose another workdir."
    )


def _file_system_code(error):
    """The `errno` that Orbax wraps in errors of many kinds; None where the file system said nothing."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        code = re.search(r"os_error_code='(\d+)'", str(error))  # of TensorStore
        if code:
            return int(code.group(1))
        error = error.__cause__
    return None
