"""The page in a browser: a file goes in, bars, a timeline and an explanation come out, also on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from selenium import webdriver
from tests.serving.loopback import served

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.slow  # needs Debian's packages chromium and chromium-driver


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """390 pixels wide."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in [*FLAGS, "--window-size=390,844", f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=os.devnull)
    driver = webdriver.Chrome(options, service)
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


def test_a_file_is_answered_on_the_page(
    make_app: Callable[..., FastAPI], browser: Any, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    video, broken = write_video(tmp_path / "a.mp4"), tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:900])

    def find(selector: str) -> Any:
        return browser.find_element("css selector", selector)

    def width_of(selector: str) -> float:
        box = f"document.querySelector('{selector}').getBoundingClientRect()"
        return float(browser.execute_script(f"return {box}.width"))

    with served(make_app(token="sesame")) as client:
        browser.get(str(client.base_url))
        find("#token").send_keys("sesame")
        find("#token-form:not([hidden]) button").click()
        assert find("#samples button:nth-child(5)").text.splitlines()[1] == "pets"
        find("#file").send_keys(str(video))
        assert find("#predictions article:nth-child(2) h2").text == "pets"
        assert 0 < width_of(".track div") < width_of(".track")
        find("#window").clear()
        find("#window").send_keys("0.5")
        find("#timeline-button").click()
        assert find("#timeline:not([hidden]) #duration").text == "1.2 s"
        assert width_of(".times div") > 2
        browser.execute_script("document.querySelector('.bar button').click()")
        assert find("#explanation:not([hidden]) h2").text.endswith("(moves)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width_of("html")
        find("#file").send_keys(str(broken))
        assert "neither a video nor an image" in find("#error:not([hidden])").text
        assert not find("#results").is_displayed()
        find("#samples button:nth-child(3)").click()
        assert find("#results:not([hidden]) #about").text.endswith("a sample of pets (image)")
        faults = [entry["message"] for entry in browser.get_log("browser") if "status of 4" not in entry["message"]]
    assert faults == []
