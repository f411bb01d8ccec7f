"""The page in a browser, on a desk and on a phone: files go in; bars, timelines and explanations come out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait
from tests.serving.loopback import served

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.slow  # needs Debian's packages chromium and chromium-driver


@pytest.fixture(params=[390, 1200])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A window with the width of a phone or of a desk."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=os.devnull)
    driver = webdriver.Chrome(options, service)
    metrics = {"width": request.param, "height": 844, "deviceScaleFactor": 1, "mobile": request.param < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)  # windows are never narrower than 500 px
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


def test_files_are_answered_on_the_page(
    make_app: Callable[..., FastAPI], browser: Any, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    clip = write_video(tmp_path / "clip.mp4", num_frames=5, fps=10)
    film = write_video(tmp_path / "film.mp4", num_frames=40, fps=10)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")

    def find(selector: str) -> Any:
        return browser.find_element("css selector", selector)

    def value(expression: str, *arguments: Any) -> Any:
        return browser.execute_script(f"return {expression}", *arguments)

    def until(expression: str) -> None:
        WebDriverWait(browser, 20).until(lambda _: value(expression))

    def nothing_is_cut_off() -> bool:
        return bool(value("document.documentElement.scrollWidth <= innerWidth")) and not value(
            "[...document.querySelectorAll('.name, h2, h3, .tiles span, #about, #error')]"
            ".filter((each) => each.scrollWidth > each.clientWidth && each.clientWidth).map((each) => each.textContent)"
        )

    with served(make_app(token="sesame")) as client:
        browser.get(str(client.base_url))
        find("#token").send_keys("sesame")
        find("#token-form:not([hidden]) button").click()
        assert find("#samples li:nth-child(5)").text.splitlines()[1] == "pets"

        # A film is answered by its timeline, and then by its classes; other files wait for their turn.
        find("#file").send_keys(f"{film}\n{clip}\n{broken}")
        find("#timeline:not([hidden])")
        until("document.querySelector('#visit li:nth-child(3)').innerText.includes('no answer')")
        assert find("#classes-title").text == "The whole video"
        assert find("#predictions article:nth-child(2) h3").text == "pets"
        assert value("document.querySelector('.track div').getBoundingClientRect().width") > 0
        bar = "[...document.querySelectorAll('.times button')].find((each) => parseFloat(each.style.left) > 10)"
        browser.execute_script("document.querySelector('#preview video').autoplay = false")
        start = value(f"4 * parseFloat(({bar} ?? document.querySelector('.times button')).style.left) / 100")
        value(f"({bar} ?? document.querySelector('.times button')).click()")
        until(f"Math.abs(document.querySelector('#preview video').currentTime - {start}) < 1")
        assert " to 0:0" in find(".times button").get_attribute("aria-label")
        assert nothing_is_cut_off()

        # The answers of this visit stay.
        find("#visit li:nth-child(2) button").click()
        assert find("#classes-title").text == "Classes" and not find("#timeline").is_displayed()
        value("document.querySelector('.bar button').click()")
        assert find("#explanation:not([hidden]) h2").text.startswith("Why ")
        find("#visit li:nth-child(3) button").click()
        assert "neither a video nor an image" in find("#failure:not([hidden]) #error").text
        assert not find("#classes").is_displayed() and not find("#again").is_displayed()
        find("#visit li:nth-child(2) button").click()
        assert find("#explanation h2").is_displayed() and nothing_is_cut_off()

        # A head less, and samples.
        find("#heads label:first-child").click()
        assert [each.text for each in browser.find_elements("css selector", "#predictions h3")] == ["pets"]
        value("document.querySelector('#samples li:nth-child(3) button').click()")
        until("document.querySelector('#about').textContent.endsWith('a sample of pets (image)')")
        assert "is answered" in value("document.querySelector('#announcement').textContent")

        # Dark and light.
        page_color = "getComputedStyle(document.body).backgroundColor"
        before = value(page_color)
        find("#theme").click()
        assert value(page_color) != before
        browser.refresh()
        find("#samples li")
        assert value(page_color) != before
        faults = [entry["message"] for entry in browser.get_log("browser") if "status of 4" not in entry["message"]]
    assert faults == []
