"""One job at a time; a bounded number, with a bounded number of bytes, is under way."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from starlette.exceptions import HTTPException

POLL_SECONDS = 0.2


class GoneError(Exception):
    """The client left."""


@dataclasses.dataclass(eq=False)
class Job:
    """A request from its admission to its end.

    Attributes:
      jobs: that it belongs to.
      token: by which its client asks for its state, or "".
      num_bytes: that it holds.
      answer_bytes: that wait for the client to take them.
      started: time.monotonic() of when it began to run, or None.
      progress: tiles done, all tiles, and seconds left or None; None where there are no tiles.
      is_dropped: nobody waits for its answer any more.
    """

    jobs: "Jobs"
    token: str = ""
    num_bytes: int = 0
    answer_bytes: int = 0
    started: float | None = None
    progress: tuple[int, int, float | None] | None = None
    is_dropped: bool = False

    def note_progress(self, done: int, total: int, seconds_left: float | None) -> None:
        """Keeps how far it is; ends by a GoneError what runs though nobody waits for it any more."""
        if self.is_dropped:
            raise GoneError
        self.progress = done, total, seconds_left

    def take(self, num_bytes: int) -> None:
        """Counts bytes that are about to be kept; 429 where all jobs together would hold too many."""
        if self.jobs.sum_of("num_bytes") + num_bytes > self.jobs.max_bytes:
            raise _make_busy_error()
        self.num_bytes += num_bytes


class Jobs:
    """The jobs that are under way, the running one first."""

    def __init__(self, *, max_jobs: int, max_bytes: int):
        """None yet, and at most so many, with so many bytes."""
        self.max_jobs, self.max_bytes = max_jobs, max_bytes
        self.is_closing = False
        self._admitted: list[Job] = []
        self._turn = asyncio.Lock()  # fair: the one that waits longest is next

    def is_running(self) -> bool:
        """Whether a job runs."""
        return self._turn.locked()

    def sum_of(self, field: str) -> int:
        """The sum of a field of all jobs."""
        return sum(getattr(job, field) for job in self._admitted)

    def find_problem(self) -> HTTPException | None:
        """Why no job is admitted now: 429 where there is no place, 503 where the server is about to end."""
        if self.is_closing:
            return HTTPException(503, "The server is ending.")
        return _make_busy_error() if len(self._admitted) >= self.max_jobs else None

    @contextlib.contextmanager
    def admit(self) -> Iterator[Job]:
        """A place for a job, until it ends."""
        job = Job(self)
        self._admitted.append(job)
        try:
            yield job
        finally:
            self._admitted.remove(job)

    def describe(self, token: str) -> dict[str, Any] | None:
        """State of the job with a token: the number before it, or its seconds and its progress; or None."""
        found = ((index, job) for index, job in enumerate(self._admitted) if token and job.token == token)
        ahead, job = next(found, (0, None))
        if job is None or job.started is None:
            return job and {"state": "waiting", "ahead": ahead}
        state = {"state": "running", "seconds": round(time.monotonic() - job.started, 1)}
        if job.progress:
            state["done"], state["total"], left = job.progress
            state |= {} if left is None else {"seconds_left": round(left, 1)}
        return state

    async def run(self, job: Job, work: Callable[[], Any], *, seconds: float, receive) -> Any:
        """What `work()` returns, run in a thread when it is its turn.

        After the time, or when the client has left, the answer is dropped. What runs ends after the tile that
        it is at; what has no tiles runs to its end. Then the next job begins.

        Args:
          seconds: from now to the answer.
          receive: of ASGI; says when the client leaves.

        Raises:
          GoneError: the client left.
          HTTPException: 504 after `seconds`, 503 where the server ends.
        """
        deadline = time.monotonic() + seconds
        answer = asyncio.ensure_future(self._run_in_turn(job, work))
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            while True:
                await asyncio.wait({answer, gone}, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
                if gone.done():
                    raise GoneError
                if self.is_closing:
                    raise HTTPException(503, "The server is ending.")
                if time.monotonic() > deadline:
                    problem = f"There was no answer within {seconds:g} seconds: send a smaller picture."
                    raise HTTPException(504, problem)
        finally:
            job.is_dropped = True
            answer.cancel()
            gone.cancel()

    async def _run_in_turn(self, job, work):
        await self._turn.acquire()
        try:
            while self.sum_of("answer_bytes") > self.max_bytes:
                await asyncio.sleep(POLL_SECONDS)
        except asyncio.CancelledError:
            self._turn.release()
            raise
        job.started = time.monotonic()
        future, loop = concurrent.futures.Future(), asyncio.get_running_loop()
        future.set_running_or_notify_cancel()  # from here on a cancellation only drops the answer

        def fulfil():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        def release(_):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._turn.release)

        future.add_done_callback(release)
        # A daemon: the end of the process does not wait for it.
        threading.Thread(target=fulfil, name="completion", daemon=True).start()
        return await asyncio.wrap_future(future)


async def _wait_until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


def _make_busy_error():
    return HTTPException(429, "The server is busy: try again in a moment.", {"Retry-After": "5"})
