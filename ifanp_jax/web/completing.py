"""POST /api/complete: reads a form, waits for its turn, and sends the answer."""

import asyncio
import json
import re

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ifanp_jax.web import forms
from ifanp_jax.web.answering import FIELDS, Answering
from ifanp_jax.web.jobs import GoneError, Jobs
from ifanp_jax.web.settings import Settings

TOKEN = re.compile(r"[\w-]{8,64}", re.ASCII)
CHUNK_BYTES = 2**16  # of an answer: what a client that does not read it holds here


class Complete:
    """An ASGI application of its own: it keeps its place until the answer is sent."""

    def __init__(self, answers: Answering, jobs: Jobs, settings: Settings):
        """For the model behind `answers`."""
        self.answers, self.jobs, self.settings = answers, jobs, settings

    async def __call__(self, scope, receive, send):
        """Answers one request."""
        request, settings = Request(scope, receive), self.settings
        if problem := self.jobs.find_problem():
            await forms.drain(request, seconds=settings.upload_seconds)
            raise problem
        with self.jobs.admit() as job:
            body = await self._make_answer(job, request)
            # The answer takes the place of what was asked; the next job runs when there is room.
            job.num_bytes, job.answer_bytes = 0, len(body)
            await _send(send, body, settings.send_seconds)

    async def _make_answer(self, job, request):
        settings = self.settings
        limits = {"max_bytes": settings.max_bytes, "seconds": settings.upload_seconds}
        fields = await forms.read(request, names=FIELDS, take=job.take, **limits)
        job.token = fields.get("job", b"").decode("utf-8", "replace")
        if job.token and not TOKEN.fullmatch(job.token):
            raise HTTPException(400, "job must have 8 to 64 letters, digits, - or _.")

        def work():
            return json.dumps(self.answers.answer(fields, on_progress=job.note_progress)).encode()

        return await self.jobs.run(job, work, seconds=settings.answer_seconds, receive=request.receive)


async def _send(send, body, seconds):
    """Sends JSON chunk by chunk, each when the client has taken those before it."""
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    try:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for start in range(0, len(body), CHUNK_BYTES):
                chunk, more = body[start : start + CHUNK_BYTES], start + CHUNK_BYTES < len(body)
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
    except TimeoutError:
        raise GoneError from None
