"""The command `serve` as a process: a browser, an attack, and its end."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.inference import export
from tests import helpers
from tests.inference import exports
from tests.web import client
from tests.web.test_server import png_header

H, W, C = exports.SHAPE
PICTURE = helpers.random_image(H, W, C)
FORM = client.form(image=client.png(PICTURE), mask=client.png(np.eye(H, W) * 255), num_samples=1)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process and its port; the last test of this file ends it."""
    folder = tmp_path_factory.mktemp("serve") / "model"
    export.write(exports.make_trained("point_np.CNP"), folder, num_samples=1)
    command = [sys.executable, "-m", "ifanp_jax.main", "serve", f"--workdir={folder}", "--port=0"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(helpers.ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr.readline, "")
        process.port = int(next(filter(None, (re.search(r"127.0.0.1:(\d+)/", line) for line in lines)))[1])
        yield process
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def ask(server, method="GET", path="/healthz", *, body=None, headers=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        kind = {"content-type": client.HEADERS["content-type"]} if body is not None else {}
        connection.request(method, path, body=body, headers=kind | (headers or {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def complete(server, body=FORM, **options):
    return ask(server, "POST", "/api/complete", body=body, **options)


def peak_bytes(server):
    with open(f"/proc/{server.pid}/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) * 1024


@pytest.mark.skipif(not BROWSER or not DRIVER, reason="there is no chromium with its chromedriver")
def test_a_person_completes_a_picture_in_a_browser(server, tmp_path):
    by = pytest.importorskip("selenium.webdriver.common.by").By
    Image.fromarray(PICTURE).save(tmp_path / "mine.png")
    with open_browser(tmp_path) as (driver, wait):
        driver.get(f"http://127.0.0.1:{server.port}/")
        wait.until(lambda _: "trained for 7 steps" in driver.find_element(by.ID, "model").text)
        driver.find_element(by.ID, "file").send_keys(str(tmp_path / "mine.png"))
        wait.until(lambda _: driver.find_element(by.ID, "overlay").is_displayed())
        drag_a_stroke(driver, driver.find_element(by.ID, "overlay"))
        wait.until(lambda _: re.match(r"[\d.]+ % of the picture", driver.find_element(by.ID, "share").text))
        driver.find_element(by.ID, "complete").click()
        wait.until(lambda _: driver.find_element(by.ID, "results").is_displayed())
        for name in ("download-mean", "download-sample_4", "save-mask"):
            driver.execute_script("document.getElementById(arguments[0]).click()", name)
        found = {name: tmp_path / f"mine_{name}.png" for name in ("mean", "sample_4", "mask")}
        wait.until(lambda _: all(path.is_file() for path in found.values()))
        images = {name: np.asarray(Image.open(path)) for name, path in found.items()}
        assert driver.find_element(by.ID, "status").text.startswith("Done in")
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= driver.execute_script("return innerWidth")
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not [text for text in severe if "/api/progress/" not in text]  # 404 once a job has ended
    missing = images["mask"][..., 0] > 0
    assert 3 <= missing.sum() < missing.size  # the stroke is five pixels long
    for name in ("mean", "sample_4"):
        np.testing.assert_array_equal(images[name][~missing], PICTURE[~missing])
        assert (images[name][missing] != PICTURE[missing]).any()


@contextlib.contextmanager
def open_browser(downloads):
    """A Chromium as small as a telephone, and what waits for it."""
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={downloads / 'profile'}")
    several = "profile.default_content_setting_values.automatic_downloads"
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads), several: 1})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield driver, WebDriverWait(driver, 30, poll_frequency=0.1)
    finally:
        driver.quit()


def drag_a_stroke(driver, element):
    """Along the middle row, from an eighth of the width to five."""
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    width = element.size["width"]
    actions = ActionChains(driver, duration=50).move_to_element_with_offset(element, -3 * width // 8, 0)
    actions.click_and_hold().move_by_offset(width // 4, 0).move_by_offset(width // 4, 0).release().perform()


def test_an_attack_is_answered_and_memory_stays_bounded(server):
    assert complete(server)[0] == 200
    before = peak_bytes(server)
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # slow clients: of some the head, of others the body never ends
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(b"POST /api/complete HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert complete(server, headers={"Origin": "http://evil.example"})[0] == 403
        assert ask(server, headers={"Host": "evil.example"})[0] == 403
        bomb = client.form(image=png_header(60_000, 60_000), mask=client.png(np.eye(H, W)))
        assert complete(server, bomb)[0] == 413
        assert complete(server, (bytes(2**20) for _ in range(200)))[0] == 413  # 200 MiB, chunked
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: complete(server), range(50)))
        assert {(status, answer["mean"]) for status, answer in answers} == {(200, answers[0][1]["mean"])}
    assert ask(server)[1]["status"] == "ok"
    assert peak_bytes(server) - before < 2**27


def test_the_process_ends_at_sigterm(server):
    large = client.form(image=client.png(helpers.random_image(96, 96, C)), mask=client.png(np.eye(96) * 255))
    with (
        socket.create_connection(("127.0.0.1", server.port)),  # an idle client does not hold it up
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        asked = pool.submit(complete, server, large)  # compiles for a while
        time.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert server.wait(20) == 0
        assert asked.result()[0] in (200, 503)
    assert time.monotonic() - started < 20
    log = server.stderr.read()
    assert "The server has ended." in log and "Traceback" not in log, log


def test_a_port_in_use_is_one_sentence(tmp_path):
    from ifanp_jax.errors import UserError
    from ifanp_jax.web import server

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="give another port"):
        server.serve(None, host="127.0.0.1", port=taken.getsockname()[1])
