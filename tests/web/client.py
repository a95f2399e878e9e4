"""A client of an ASGI application, in this process: requests as bytes, and a client that leaves."""

import asyncio
import dataclasses
import io
import json

import numpy as np
from PIL import Image

from ifanp_jax.web.jobs import GoneError

BOUNDARY = "a-boundary"
HEADERS = {"host": "127.0.0.1:8000", "content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def png(values, **options):
    """A PNG of uint8 (H, W) or (H, W, C)."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(file, "PNG", **options)
    return file.getvalue()


def form(**fields):
    """The body of a form; bytes are sent as files."""
    lines = []
    for name, value in fields.items():
        file = '; filename="../../etc/passwd"' if isinstance(value, bytes) else ""
        head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'
        lines += [head.encode(), value if isinstance(value, bytes) else str(value).encode(), b"\r\n"]
    return b"".join([*lines, f"--{BOUNDARY}--\r\n".encode()])


async def send(app, method, path, *, body=b"", headers=None, left=None, reads=True):
    """One request; the body is sent byte for byte, or in the given chunks.

    After it the client stays, or leaves when the event `left` is set; it may not read the answer's body.
    """
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    answer = Answer(0, {}, b"")

    async def receive():
        if messages and messages[0]["body"] is not None:
            return messages.pop(0)
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def write(message):
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif not reads:
            await asyncio.Event().wait()
        else:
            answer.body += message.get("body", b"")

    headers = HEADERS | (headers or {})
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    try:
        await app(scope, receive, write)
    except (RuntimeError, GoneError):  # for the server's log, after the answer
        if not answer.status:
            raise
    return answer


def ask(app, method, path, **options):
    """`send`, from a test that is not asynchronous."""
    return asyncio.run(send(app, method, path, **options))
