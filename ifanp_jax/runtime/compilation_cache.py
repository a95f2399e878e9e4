"""Compiled programs kept on disk, so that a second start does not compile again. Off unless asked for."""

import os
import pathlib
import stat

import jax

from ifanp_jax.errors import UserError

MIN_SECONDS = 0.0  # of compiling: a start compiles a dozen small programs, which take a second together


def enable(directory: str | pathlib.Path) -> None:
    """Keeps compiled programs in a folder of the user's own. Call it before anything is compiled.

    What lies in it is run as machine code, so nobody else may be able to write there.

    Args:
      directory: made with mode 0700 where missing; "~" is the user's home.

    Raises:
      UserError: when it cannot be made, or belongs to or is writable by others.
    """
    path = pathlib.Path(directory).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be made ({error.strerror}); choose another folder.") from None
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(
            f"{path} belongs to or is writable by other users, whose programs would then be run; `chmod 700` "
            "it or choose a folder of your own."
        )
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
