"""A multipart body, read into memory and nowhere else."""

import asyncio
import math
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser, parse_options_header
from starlette.exceptions import HTTPException

MAX_DRAINED = 2**28  # of a body that is refused: read and dropped, so that the client hears why


class Form:
    """Collects the parts of a multipart body by name; each may come once."""

    def __init__(self, boundary: bytes, names: tuple[str, ...]):
        """For a boundary, and the names that there may be."""
        self.fields = {}
        self._names, self._is_ended = names, False
        kind, in_memory = "multipart/form-data", {"MAX_MEMORY_FILE_SIZE": math.inf}
        self._parser = FormParser(kind, self._add, self._add, self._end, boundary, config=in_memory)

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _make_damaged_error() from None

    def finish(self) -> dict[str, bytes]:
        """The parts by name, once all bytes are written."""
        if not self._is_ended:
            raise _make_damaged_error()
        return self.fields

    def _add(self, part):
        name = (part.field_name or b"").decode("utf-8", "replace")
        if name not in self._names:
            allowed = ", ".join(self._names)
            raise HTTPException(400, f"There is no field {name[:50]!r}; there are {allowed}.")
        if name in self.fields:
            raise HTTPException(400, f"The field {name} comes twice.")
        value = part.file_object.getvalue() if isinstance(part, File) else part.value
        self.fields[name] = value or b""

    def _end(self):
        self._is_ended = True


async def read(
    request, *, names: tuple[str, ...], max_bytes: int, seconds: float, take: Callable[[int], None]
) -> dict[str, bytes]:
    """Reads the body of a request.

    Args:
      names: of the parts that there may be.
      max_bytes: of the body.
      take: called with the size of every chunk before it is kept; may refuse it by an exception.

    Returns:
      The parts by name; file names are dropped.

    Raises:
      HTTPException: 400 for a body of another form, 408 for a slow one, 413 for a large one, 415 for another
        type.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "The body must be multipart/form-data.")
    form, size, problem = Form(options[b"boundary"], names), 0, None
    announced = request.headers.get("content-length", "")
    is_large = announced.isdecimal() and int(announced) > max_bytes
    async for chunk in _stream(request, seconds):
        size += len(chunk)
        is_large = is_large or size > max_bytes
        if is_large or problem:
            continue
        try:
            take(len(chunk))
            form.write(chunk)
        except HTTPException as error:
            problem = error
    if is_large:
        limit = f"{max_bytes / 2**20:g} MiB"
        raise HTTPException(413, f"The request is larger than {limit}: send a smaller file.")
    if problem:
        raise problem
    return form.finish()


async def drain(request, *, seconds: float) -> None:
    """Reads a body and drops it, so that a client that only listens afterwards hears the answer."""
    async for _ in _stream(request, seconds):
        pass


async def _stream(request, seconds):
    """The body in chunks, up to MAX_DRAINED; 408 where it is slow."""
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                yield chunk
                if size > MAX_DRAINED:
                    break
    except TimeoutError:
        raise HTTPException(408, f"The request did not arrive within {seconds:g} seconds.") from None


def _make_damaged_error():
    return HTTPException(400, "The body is no whole multipart/form-data.")
