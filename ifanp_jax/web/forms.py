"""A multipart body, read into memory and nowhere else."""

import asyncio
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

MAX_DRAINED = 2**28  # of a body that is refused: read and dropped, so that the client hears why
MAX_HEADER = 2**12


class Form:
    """Collects the parts of a multipart body by name; each may come once."""

    def __init__(self, boundary: bytes, names: tuple[str, ...]):
        """For a boundary, and the names that there may be."""
        self.fields = {}
        self._names = names
        self._header, self._value, self._data, self._disposition = b"", b"", bytearray(), b""
        self._is_ended = False
        actions = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, actions)

    def write(self, chunk: bytes) -> None:
        """Takes the next bytes."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise HTTPException(400, "The body is no whole multipart/form-data.") from None

    def finish(self) -> dict[str, bytes]:
        """The parts by name, once all bytes are written."""
        if not self._is_ended:
            raise HTTPException(400, "The body is no whole multipart/form-data.")
        return self.fields

    def _begin(self):
        self._data, self._disposition = bytearray(), b""

    def _add_to_header(self, data, start, end):
        self._header = (self._header + data[start:end])[:MAX_HEADER]

    def _add_to_value(self, data, start, end):
        self._value = (self._value + data[start:end])[:MAX_HEADER]

    def _end_header(self):
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _add_data(self, data, start, end):
        self._data += data[start:end]

    def _end_part(self):
        name = parse_options_header(self._disposition)[1].get(b"name", b"").decode("utf-8", "replace")
        if name not in self._names:
            allowed = ", ".join(self._names)
            raise HTTPException(400, f"There is no field {name[:50]!r}; there are {allowed}.")
        if name in self.fields:
            raise HTTPException(400, f"The field {name} comes twice.")
        self.fields[name] = bytes(self._data)
        self._data = bytearray()

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
    if announced.isdecimal() and int(announced) > max_bytes:
        problem = _make_too_large_error(max_bytes)
    async for chunk in _stream(request, seconds):
        size += len(chunk)
        if size > max_bytes and (problem is None or problem.status_code != 413):
            problem = _make_too_large_error(max_bytes)
        if problem:
            continue
        try:
            take(len(chunk))
            form.write(chunk)
        except HTTPException as error:
            problem = error
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


def _make_too_large_error(max_bytes):
    return HTTPException(413, f"The request is larger than {max_bytes / 2**20:g} MiB: send a smaller file.")
