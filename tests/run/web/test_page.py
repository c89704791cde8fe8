"""The live page as a person uses it, in a headless Chromium."""

import threading
import time

import pytest

from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import BackendError
from okdhp_edge.run.controls import Controls
from okdhp_edge.run.web.hub import Hub
from okdhp_edge.run.web.server import WebServer, parse_address
from tests.helpers.fakes import FakeBackend, ScriptedSource
from tests.helpers.running import run_on

pytestmark = pytest.mark.slow


class _Camera(ScriptedSource):
    """Brighter from frame to frame, thirty a second."""

    def _next(self):
        if self._stopped.wait(1 / 30):
            return None
        return super()._next()


@pytest.fixture
def page(browser):
    """A run in the background, its page in the browser, and what steers it."""
    controls = Controls(
        choices=(RuntimeChoice("fake", "int8"), RuntimeChoice("fake", "fp32")),
        current=RuntimeChoice("fake", "int8"),
    )
    hub = Hub(controls, ["door camera"])
    source = _Camera(10**9, live=True)
    with WebServer(hub, parse_address("0")) as server:
        run = threading.Thread(
            target=run_on, args=([source],), kwargs={"sinks": hub.channels, "controls": controls}
        )
        run.start()
        browser.get(server.address.url)
        yield browser, hub
        controls.stop.set()
        run.join(10)


def _until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.1)


def _text(driver, element):
    return driver.execute_script(f"return document.getElementById('{element}').textContent")


def _pixel(driver):
    """A pixel of the live picture."""
    return driver.execute_script(
        "const c = document.createElement('canvas'), p = document.querySelector('#views img');"
        "if (!p || !p.naturalWidth) return null;"
        "c.width = p.naturalWidth; c.height = p.naturalHeight;"
        "const pen = c.getContext('2d'); pen.drawImage(p, 0, 0);"
        "return pen.getImageData(c.width - 5, c.height - 5, 1, 1).data[0];"
    )


def test_the_picture_moves_and_the_numbers_follow(page):
    driver, hub = page
    _until(lambda: _pixel(driver) is not None)
    first = _pixel(driver)
    _until(lambda: abs(_pixel(driver) - first) > 10)
    _until(lambda: "frames per second" in _text(driver, "tiles"))
    _until(lambda: 20 < float(_text(driver, "tiles").split("frames")[0]) < 40)
    assert "infer" in _text(driver, "legend")
    assert "door camera" in driver.find_element("tag name", "figcaption").text
    assert hub.viewers == 1
    width = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert width <= 0  # nothing to push sideways on a phone


def test_controls_act(page):
    driver, hub = page
    _until(lambda: driver.find_element("id", "pause").is_displayed() and _pixel(driver) is not None)
    driver.find_element("id", "pause").click()
    _until(lambda: hub.controls.paused and _text(driver, "pause") == "Resume")
    driver.find_element("id", "pause").click()
    _until(lambda: not hub.controls.paused)
    driver.execute_script(
        "const t = document.getElementById('threshold'); t.value = 0.8;"
        "t.dispatchEvent(new Event('input')); t.dispatchEvent(new Event('change'));"
    )
    _until(lambda: hub.controls.threshold == 0.8)


def test_switching_the_model_and_what_happens_when_it_fails(page):
    from selenium.webdriver.support.ui import Select

    driver, hub = page
    _until(lambda: "int8" in _text(driver, "running"))
    hub.controls.open_choice = lambda _: FakeBackend(score=0.5)
    Select(driver.find_element("id", "choice")).select_by_value("fake fp32")
    _until(lambda: hub.controls.current == RuntimeChoice("fake", "fp32"))
    _until(lambda: "fp32" in _text(driver, "running"))

    def refuse(choice):
        raise BackendError("no such device", "plug it in")

    hub.controls.open_choice = refuse
    Select(driver.find_element("id", "choice")).select_by_value("fake int8")
    _until(lambda: "no such device" in _text(driver, "trouble"))
    assert hub.controls.current == RuntimeChoice("fake", "fp32")


def test_the_page_says_when_the_run_is_gone(browser):
    hub = Hub(Controls(), ["cam"])
    with WebServer(hub, parse_address("0")) as server:
        browser.get(server.address.url)
        _until(lambda: "viewers" in _text(browser, "tiles"))
    _until(lambda: browser.find_element("id", "lost").is_displayed())
