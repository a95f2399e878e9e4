"""Connections that do not wait for ever for a client that says nothing, or takes nothing."""

from uvicorn.protocols.http.h11_impl import H11Protocol

CHECK_SECONDS = 10


class Connection(H11Protocol):
    """HTTP/1.1, closed after one to two times `check_seconds` without a request under way.

    Once a request is under way the application keeps the time.
    """

    check_seconds = CHECK_SECONDS

    def connection_made(self, transport):
        """Called by asyncio."""
        super().connection_made(transport)
        self._was_idle = False
        self._check = self.loop.call_later(self.check_seconds, self._close_if_idle)

    def connection_lost(self, exc):
        """Called by asyncio."""
        self._check.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self):
        was_idle, self._was_idle = self._was_idle, self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing() or (was_idle and self._was_idle):
            self.transport.abort()
        else:
            self._check = self.loop.call_later(self.check_seconds, self._close_if_idle)
