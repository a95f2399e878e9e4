"""The routes of the server, and its process from the start to the end."""

import importlib.resources
import logging
import os
import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.runtime import signals
from ifanp_jax.version import __version__
from ifanp_jax.web import answering
from ifanp_jax.web.completing import Complete
from ifanp_jax.web.connections import Connection
from ifanp_jax.web.guard import Guard, list_urls
from ifanp_jax.web.jobs import GoneError, Jobs
from ifanp_jax.web.settings import DEFAULT_SETTINGS, Served, Settings

logger = logging.getLogger(__name__)

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/painter.js": ("painter.js", "text/javascript"),
    "/results.js": ("results.js", "text/javascript"),
}
CLIENT_LEFT = 499
GRACE_SECONDS = 5  # for answers that are being sent when the server ends


def make_app(served: Served, *, host: str = "127.0.0.1", settings: Settings = DEFAULT_SETTINGS):
    """The ASGI application.

    Args:
      host: that the server listens on: the name that a Host header may have.

    Returns:
      The application; its attribute `jobs` is what is under way.
    """
    jobs = Jobs(max_jobs=settings.max_jobs, max_bytes=settings.max_bytes_in_all)
    answers = answering.Answering(served, settings)

    async def tell_progress(request):
        state = jobs.describe(request.path_params["job"])
        problem = {"error": "There is no such job under way."}
        return JSONResponse(problem, 404) if state is None else JSONResponse(state)

    async def tell_health(_):
        return JSONResponse({"status": "ok", "model": served.name, "version": __version__})

    async def tell_model(_):
        return JSONResponse(answers.describe())

    routes = [
        *(Route(path, _make_file_route(*file)) for path, file in PAGE.items()),
        Route("/favicon.ico", _make_file_route("icon.svg", "image/svg+xml")),
        Route("/healthz", tell_health),
        Route("/api/model", tell_model),
        Route("/api/progress/{job}", tell_progress),
        Route("/api/complete", Complete(answers, jobs, settings), methods=["POST"]),
    ]
    app = Guard(Starlette(routes=routes, exception_handlers=_HANDLERS), host)
    app.jobs = jobs
    return app


def _make_file_route(name, media_type):
    content = importlib.resources.files("ifanp_jax.web").joinpath(name).read_bytes()

    async def send(_):
        return Response(content, media_type=media_type)

    return send


async def _explain_http(_, error):
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _explain_user_error(_, error):
    return JSONResponse({"error": str(error)}, 413 if isinstance(error, image_ops.TooLargeError) else 400)


async def _drop(*_):
    return Response(status_code=CLIENT_LEFT)  # nobody hears it


async def _hide(_, error):
    logger.error("A request failed.", exc_info=error)
    return JSONResponse({"error": "The server failed at this request; its log says more."}, 500)


_HANDLERS = {
    HTTPException: _explain_http,
    UserError: _explain_user_error,
    ClientDisconnect: _drop,  # during the upload
    GoneError: _drop,  # after it
    Exception: _hide,
}


def serve(served: Served, *, host: str, port: int, settings: Settings = DEFAULT_SETTINGS) -> None:
    """Serves until SIGTERM or SIGINT, and then returns; or ends the process with 0 where a job still runs.

    Args:
      host: address to listen on; only "127.0.0.1" keeps other machines out.
      port: 0 = any free one.

    Raises:
      UserError: the address cannot be used.
    """
    listener = _listen(host, port)
    app = make_app(served, host=host, settings=settings)
    silent = {"log_config": None, "access_log": False, "server_header": False}
    limits = {"limit_concurrency": 4 * settings.max_jobs, "timeout_graceful_shutdown": GRACE_SECONDS}
    config = uvicorn.Config(app, http=Connection, lifespan="off", ws="none", **silent, **limits)
    server = uvicorn.Server(config)
    # In another thread uvicorn leaves the signals alone.
    thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
    with signals.noted():
        thread.start()
        for url in list_urls(host, listener.getsockname()[1]):
            logger.info("The page is at %s", url)
        while thread.is_alive() and not signals.received():
            thread.join(0.2)
        app.jobs.is_closing = True
        server.should_exit = True
        thread.join(2 * GRACE_SECONDS)
    logger.info("The server has ended.")
    if app.jobs.is_running():  # Python would abort under a computation, and there is nothing to be saved
        sys.stderr.flush()
        os._exit(0)


def _listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--host={host} --port={port} cannot be listened on ({first_line(error)}); give another port."
        ) from None
