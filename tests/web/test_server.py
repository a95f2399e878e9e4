"""The application: answers and refusals. Its model is a stub where the model does not matter."""

import asyncio
import base64
import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import uvicorn
from PIL import Image

from ifanp_jax.completion.preview import WHITE_UNCERTAINTY
from ifanp_jax.errors import UserError
from ifanp_jax.web.connections import Connection
from ifanp_jax.web.jobs import GoneError
from ifanp_jax.web.server import PAGE, make_app
from ifanp_jax.web.settings import Served, Settings
from tests import helpers
from tests.web import client
from tests.web.stub import Stub

PICTURE = helpers.random_image(6, 9, 3)
MISSING = ~helpers.random_mask(6, 9)
FILES = {"image": client.png(PICTURE), "mask": client.png(MISSING * np.uint8(255))}
GOOD = FILES | {"num_samples": 2, "seed": 3}


def make(model=None, *, host="127.0.0.1", **limits):
    served = Served(model=model or Stub(), name="a.Stub", flag="--workdir=runs/a", python="ifanp_jax.load()")
    return make_app(served, host=host, settings=Settings(**limits))


def complete(app, *, headers=None, **fields):
    return client.ask(app, "POST", "/api/complete", body=client.form(**GOOD | fields), headers=headers)


def read_png(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_observed_pixels_come_back_byte_for_byte():
    model = Stub()
    answer = complete(make(model))
    assert answer.status == 200, answer.body
    assert len(answer.json["samples"]) == 2
    for text in (*answer.json["samples"], answer.json["mean"]):
        expected = np.where(MISSING[..., None], 128, PICTURE)
        np.testing.assert_array_equal(read_png(text), expected)
    uncertainty = read_png(answer.json["uncertainty"])
    np.testing.assert_array_equal(uncertainty, np.full((6, 9), np.ceil(0.125 / WHITE_UNCERTAINTY * 255)))
    assert answer.json["missing_fraction"] == pytest.approx(MISSING.mean())
    ((*options, mask),) = model.calls
    assert options == [2, 3, "auto", None] and answer.json["rounds"] == 2
    assert answer.json["completed"] == answer.json["mean"] and answer.json["alternatives"] == []
    np.testing.assert_array_equal(mask, ~MISSING)


def test_holes_and_grain_are_as_the_client_asks_and_doubts_are_told():
    model = Stub()
    model.notes, model.completed = ("Doubtful.",), np.full(PICTURE.shape, 0.25, np.float32)
    app = make(model)
    answer = complete(app, fill="montage", grain="no")
    assert answer.json["warnings"] == list(model.notes) and answer.json["fill"] == "montage"
    expected = np.where(MISSING[..., None], 64, PICTURE)
    np.testing.assert_array_equal(read_png(answer.json["completed"]), expected)
    for text in ("yes", "auto"):
        complete(app, grain=text)
    asked = [(one.fill, one.grain) for one in model.options]
    assert asked == [("montage", False), ("auto", True), ("auto", None)]


def test_completed_pictures_to_choose_from():
    answer = complete(make(Stub()), num_completed="3")
    expected = np.where(MISSING[..., None], 64, PICTURE)
    assert len(answer.json["alternatives"]) == 2
    for text in answer.json["alternatives"]:
        np.testing.assert_array_equal(read_png(text), expected)
    refused = complete(make(Stub()), num_completed="9")
    assert refused.status == 400 and "num_completed is 9" in refused.json["error"]


def test_transparency_and_grey_of_sixteen_bits_come_back():
    picture = helpers.random_image(6, 9, 4)
    answer = complete(make(), image=client.png(picture)).json
    assert (answer["channels"], answer["bits"]) == (4, 8)
    np.testing.assert_array_equal(read_png(answer["mean"])[~MISSING], picture[~MISSING])
    grey = np.random.default_rng(0).integers(0, 2**16, (6, 9), np.uint16)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    answer = complete(make(), image=file.getvalue()).json
    assert (answer["channels"], answer["bits"], answer["warnings"]) == (1, 16, [])
    np.testing.assert_array_equal(read_png(answer["mean"]), np.where(MISSING, 32768, grey))


def test_white_may_mean_observed_and_what_the_model_never_saw_is_told():
    model = Stub()
    model.untrained = ("The model was trained on something else.",)
    answer = complete(make(model), white="observed", size="trained", rounds=5, job="12345678")
    assert answer.status == 200
    np.testing.assert_array_equal(model.calls[0][-1], MISSING)
    assert model.calls[0][:-1] == (2, 3, "trained", 5) and answer.json["rounds"] == 5
    answer = complete(make(model), mask=client.png(np.full((6, 9), 255)), size="own")
    assert [text.split(":")[0] for text in answer.json["warnings"]] == [
        "All of the picture is to be completed, from nothing",
        *model.untrained,
    ]


def test_equal_answers_are_told():
    model = Stub()
    model.rounds_taken = 1
    (warning,) = complete(make(model)).json["warnings"]
    assert "2 answers are equal; rounds=2 would" in warning and "4 times as long" in warning
    assert complete(make(model), num_samples=1).json["warnings"] == []


def test_the_answer_is_that_of_the_library(make_model):
    model = make_model(image_shape=(6, 9, 3))
    answer = complete(make(model))
    result = model.complete(PICTURE, ~MISSING, num_samples=2, seed=3)
    expected = np.where(MISSING[..., None], np.floor(result.mean * 255 + 0.5), PICTURE)
    np.testing.assert_array_equal(read_png(answer.json["mean"]), expected)


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_bad_input_is_one_sentence():
    cases = [
        ({"image": b""}, 400, "The field image is missing"),
        ({"mask": b""}, 400, "The field mask is missing"),
        ({"image": b"no picture"}, 400, "The picture is not a picture of the formats"),
        ({"image": GOOD["image"][:100]}, 400, "The picture cannot be read"),
        ({"mask": b"%!PS"}, 400, "The mask is not a picture of the formats"),
        ({"mask": client.png(np.zeros((9, 6)))}, 400, "The mask has 9x6 pixels"),
        ({"mask": client.png(np.zeros((6, 9)))}, 400, "The mask marks no pixel as missing"),
        ({"mask": client.png(np.zeros((6, 9, 4)))}, 400, "The mask has transparent pixels"),
        ({"image": png_header(60_000, 60_000)}, 413, "The picture has more than 1,000 pixels"),
        ({"mask": png_header(60_000, 60_000)}, 413, "The mask has more than 1,000 pixels"),
        ({"image": png_header(40, 26)}, 413, "The picture has more than 1,000 pixels"),
        ({"num_samples": 7}, 413, "7 answers of 54 pixels are more than the 350"),
        ({"image": bytes(4000)}, 413, "The request is larger than 0.00390625 MiB"),
        ({"num_samples": 0}, 400, "num_samples is 0"),
        ({"num_samples": 9}, 400, "at most 8 are allowed"),
        ({"rounds": 65}, 400, "rounds is 65 but at most 64 are allowed"),
        ({"rounds": 0}, 400, "rounds is 0 but must be"),
        ({"num_samples": "-1"}, 400, "num_samples is '-1'"),
        ({"num_samples": "\u0664"}, 400, "num_samples is"),
        ({"seed": 2**32}, 400, "seed is 4294967296"),
        ({"size": "huge"}, 400, "size is 'huge'"),
        ({"fill": "magic"}, 400, "fill is 'magic'"),
        ({"grain": "some"}, 400, "grain is 'some'"),
        ({"white": "grey"}, 400, "white is 'grey'"),
        ({"job": "../../x"}, 400, "job must have"),
        ({"workdir": "/etc"}, 400, "There is no field 'workdir'"),
    ]
    app = make(max_bytes=2**12, max_pixels=1000, max_answer_pixels=350, max_samples=8)
    for fields, status, message in cases:
        answer = complete(app, **fields)
        assert answer.status == status and message in answer.json["error"], (fields, answer.body)
    assert complete(app).status == 200  # nothing is left behind


def test_bodies_of_another_form_in_small_chunks_and_announced_as_large():
    cases = [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 415),
        (b"", None, 415),
        (b"", client.HEADERS["content-type"], 400),
        (client.form(**GOOD)[:-9], client.HEADERS["content-type"], 400),
        (client.form(seed=1)[:-18] + client.form(seed=1), client.HEADERS["content-type"], 400),
        (b"nothing of it", client.HEADERS["content-type"], 400),
    ]
    for body, kind, status in cases:
        answer = client.ask(make(), "POST", "/api/complete", body=body, headers={"content-type": kind})
        assert answer.status == status and answer.json["error"], (body, kind)
    body = client.form(**GOOD)
    chunks = [body[i : i + 7] for i in range(0, len(body), 7)]
    assert client.ask(make(), "POST", "/api/complete", body=chunks).status == 200
    answer = client.ask(make(), "POST", "/api/complete", headers={"content-length": "999999999"})
    assert answer.status == 413


def test_host_and_origin():
    cases = [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"host": "localhost:9999"}, 200),
        ("127.0.0.1", {"host": "[::1]:8000"}, 200),
        ("127.0.0.1", {"host": "LocalHost:8000", "origin": "http://LOCALHOST:8000"}, 200),
        ("127.0.0.1", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),  # a link
        ("127.0.0.1", {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ("127.0.0.1", {"host": "evil.example"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1.evil.example"}, 403),
        ("127.0.0.1", {"host": "192.168.0.7"}, 403),
        ("127.0.0.1", {"host": None}, 403),
        ("127.0.0.1", {"origin": "http://evil.example"}, 403),
        ("127.0.0.1", {"origin": "http://127.0.0.1:9000"}, 403),
        ("127.0.0.1", {"origin": "null"}, 403),
        ("127.0.0.1", {"origin": ""}, 403),
        ("127.0.0.1", {"sec-fetch-site": "cross-site"}, 403),
        ("127.0.0.1", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("127.0.0.1", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
        ("0.0.0.0", {"host": "192.168.0.7:8000", "origin": "http://192.168.0.7:8000"}, 200),
        ("0.0.0.0", {"host": "evil.example"}, 403),
    ]
    for host, headers, status in cases:
        model = Stub()
        app = make(model, host=host)
        found = complete(app, headers=headers).status, client.ask(app, "GET", "/", headers=headers).status
        assert found == (status, status) and len(model.calls) == (status == 200), (host, headers)


def test_pages_and_their_headers():
    app = make()
    for path in (*PAGE, "/favicon.ico", "/healthz", "/api/model", "/missing", "/page.html", "/../setup.py"):
        answer = client.ask(app, "GET", path)
        assert answer.status == (404 if path in ("/missing", "/page.html", "/../setup.py") else 200)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    assert client.ask(app, "GET", "/healthz").json["status"] == "ok"
    assert client.ask(app, "GET", "/api/complete").status == 405
    page = client.ask(app, "GET", "/").body.decode()
    assert " style=" not in page and "onclick" not in page and "https://" not in page  # as the policy wants
    model = client.ask(app, "GET", "/api/model").json
    assert model["image_shape"] == [4, 4, 3] and model["flag"] == "--workdir=runs/a"


def test_a_failure_says_nothing_of_the_inside():
    answer = complete(make(Stub(RuntimeError("secret"))))
    assert (answer.status, "secret" in answer.body.decode()) == (500, False)
    answer = complete(make(Stub(UserError("Too large."))))
    assert (answer.status, answer.json) == (400, {"error": "Too large."})
    answer = complete(make(Stub(MemoryError())))
    assert answer.status == 400 and "memory" in answer.json["error"]


def post(app, **options):
    body = client.form(**GOOD | options.pop("fields", {}))
    return asyncio.ensure_future(client.send(app, "POST", "/api/complete", body=body, **options))


async def begun(model):
    assert await asyncio.to_thread(model.begun.wait, 10)
    model.begun.clear()


def test_a_bounded_number_waits_and_its_state_is_told():
    async def run():
        model = Stub()
        model.go.clear()
        app = make(model, max_jobs=3)
        asked = [post(app, fields={"job": f"job-{index:05}"}) for index in range(3)]
        await begun(model)
        states = [await client.send(app, "GET", f"/api/progress/job-{index:05}") for index in range(3)]
        assert [state.json["state"] for state in states] == ["running", "waiting", "waiting"]
        assert [state.json.get("ahead") for state in states] == [None, 1, 2]
        refused = await post(app)
        assert refused.status == 429 and refused.headers["retry-after"] == "5"
        assert (await client.send(app, "GET", "/healthz")).status == 200
        model.go.set()
        assert [(await answer).status for answer in asked] == [200] * 3
        assert (await client.send(app, "GET", "/api/progress/job-00000")).status == 404
        assert (await post(app)).status == 200

    asyncio.run(run())


def test_all_bodies_together_have_a_bound_and_a_slow_upload_ends():
    async def run():
        model, left = Stub(), asyncio.Event()
        model.go.clear()
        app = make(model, max_bytes_in_all=len(client.form(**GOOD)) + 10, upload_seconds=0.1)
        first = post(app)
        await begun(model)
        assert (await post(app)).status == 429
        model.go.set()
        assert (await first).status == 200
        half = client.form(**GOOD)[:50]
        assert (await client.send(app, "POST", "/api/complete", body=[half, None])).status == 408
        left.set()
        answer = await client.send(app, "POST", "/api/complete", body=[half, None], left=left)
        assert answer.status == 499

    asyncio.run(run())


def test_a_job_of_a_client_that_leaves_or_waits_too_long_is_dropped():
    async def run():
        model, left = Stub(), asyncio.Event()
        model.go.clear()
        app = make(model, answer_seconds=0.5)
        running = post(app, left=left)
        await begun(model)
        waiting = post(app, left=left)
        await asyncio.sleep(0)
        left.set()
        assert [(await answer).status for answer in (running, waiting)] == [499, 499]
        late = post(app)  # what runs goes on, so this one waits
        assert (await late).status == 504
        model.go.set()
        assert (await post(app)).status == 200
        assert len(model.calls) == 2  # of those who left and came late only the one that had begun
        app.jobs.is_closing = True
        assert (await post(app)).status == 503

    asyncio.run(run())


def test_tiles_are_told_and_stop_when_the_client_leaves():
    async def run():
        model, left = Stub(num_tiles=100), asyncio.Event()
        app = make(model)
        asked = post(app, fields={"job": "job-00000"}, left=left)
        await begun(model)
        state = {}
        while "seconds_left" not in state:
            await asyncio.sleep(0.02)
            state = (await client.send(app, "GET", "/api/progress/job-00000")).json
        assert state["state"] == "running" and 2 <= state["done"] < state["total"] == 100
        left.set()
        assert (await asked).status == 499
        model.num_tiles = 0
        assert (await post(app)).status == 200  # long before all tiles would be done
        assert len(model.calls) == 1

    asyncio.run(run())


def test_the_next_job_waits_while_clients_do_not_take_their_answers_and_gives_its_turn_back():
    async def run():
        app = make(max_bytes_in_all=1100, send_seconds=0.5)
        slow = post(app, reads=False)
        await asyncio.sleep(0.2)
        with app.jobs.admit() as job:
            job.answer_bytes = 1000  # together they hold more than is allowed
            left = asyncio.Event()

            async def receive():
                await left.wait()
                return {"type": "http.disconnect"}

            begin = lambda receive: asyncio.ensure_future(  # noqa: E731
                app.jobs.run(job, lambda: 7, seconds=5, receive=receive)
            )
            gone, other = begin(receive), begin(asyncio.Event().wait)
            await asyncio.sleep(0.1)
            left.set()  # the client of the next one leaves, which has the turn but does not run
            with pytest.raises(GoneError):
                await gone
            assert not other.done() and not slow.done()
            assert (await slow).body == b""  # the time for sending is over, and with it what it held
            assert await other == 7

    asyncio.run(run())


def test_idle_connections_are_closed():
    class Impatient(Connection):
        check_seconds = 0.1

    async def run():
        config = uvicorn.Config(make(), http=Impatient, log_config=None, lifespan="off", ws="none")
        config.load()
        state, loop = uvicorn.server.ServerState(), asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: Impatient(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        port = listener.sockets[0].getsockname()[1]
        for head in (b"", b"POST /api/complete HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        listener.close()

    asyncio.run(run())


def test_compiled_programs_are_forgotten(monkeypatch):
    cleared, app = [], make(max_programs=2)
    monkeypatch.setattr("jax.clear_caches", lambda: cleared.append(1))
    for num_samples in (1, 2, 1, 3, 4, 5):
        assert complete(app, num_samples=num_samples).status == 200
    assert len(cleared) == 2
