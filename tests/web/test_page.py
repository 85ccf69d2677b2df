"""The page of a study in a real browser during its search, and the requests that it refuses."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heretic.ablation.methods.kernel.space import KernelSpace
from heretic.study.reader import RecordedStudy
from heretic.study.sampler import SamplerOptions
from heretic.study.schema import StudyRecord
from heretic.study.study import Study
from tests.support.optional import need_package
from tests.support.study_toys import metrics

need_package("gradio")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.slow


TOKENS: dict[str, str] = {}
"""The token of each server."""


@pytest.fixture(scope="module")
def study(short_study: Path) -> Path:
    return short_study


@pytest.fixture(scope="module")
def server(study: Path) -> Iterator[str]:
    """The address of the page, HOST:PORT."""
    command = [sys.executable, "-m", "heretic", "ui", str(study), "--port", "0", "--no-browser"]
    environment = os.environ | {"NO_PROXY": "*"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=study.parent, env=environment) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"http://(127\.0\.0\.1:\d+)/\?token=([\w-]+)", line):
                    TOKENS[found[1]] = found[2]
                    yield found[1]
                    break
            else:
                raise AssertionError("the server said no address")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def answer(server: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(server, timeout=20)
    headers = {"Cookie": f"heretic-{server.rpartition(':')[2]}={TOKENS[server]}"} | headers
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/join", "/gradio_api/info"])
def test_other_origins_are_refused(server: str, path: str) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{server.rpartition(':')[0]}:1"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.rpartition(':')[2]}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert answer(server, path, **headers)[0] == 403, headers
        assert answer(server, path, "POST", **headers)[0] == 403, headers


def test_the_own_page_is_served_and_may_load_nothing_from_elsewhere(server: str) -> None:
    status, headers = answer(server, Origin=f"http://{server}", Sec_Fetch_Site="same-origin")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]


def test_nothing_is_served_without_the_token_and_no_file_is_taken(server: str) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/join"):
        assert answer(server, path, Cookie="")[0] == 403
    assert answer(server, "/gradio_api/upload", "POST")[0] == 403
    assert answer(server, "/docs")[0] == answer(server, "/openapi.json")[0] == 403
    status, headers = answer(server, f"/?token={TOKENS[server]}", Cookie="")
    assert (status, headers["location"]) == (303, "/") and "HttpOnly; SameSite=Strict" in headers["set-cookie"]


def test_it_listens_on_loopback_alone(server: str) -> None:
    psutil = pytest.importorskip("psutil")
    port = int(server.rpartition(":")[2])
    listening = [each for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port]
    assert [each.laddr.ip for each in listening] == ["127.0.0.1"]


@pytest.fixture
def page(server: str) -> Iterator[Any]:
    """The page in headless Chromium; a request to elsewhere or an error of its scripts fails the test."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(60_000)
        page.goto(f"http://{server}/?token={TOKENS[server]}")
        page.wait_for_selector("#front circle")
        yield page
        browser.close()
    assert errors == []
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {server}


def add_trials(path: Path, count: int) -> None:
    """Simulates a search in another process."""
    record: StudyRecord = RecordedStudy(path).record
    space = KernelSpace(tuple(record.space["components"]), record.space["last_layer"])
    with Study(path, space, SamplerOptions("random", seed=5)) as study:
        for number, candidate in enumerate(study.ask(count), 1):
            study.tell(candidate, metrics(5 * number, 0.3 * number), (0.3 * number, 0.2 * number))


def test_points_are_clicked_and_trials_appear_while_a_search_runs(page: Any, study: Path) -> None:
    trials = RecordedStudy(study).trials
    points = page.locator("#front circle")
    assert points.count() == sum(not trial.pruned for trial in trials)
    before = points.count()
    add_trials(study, 2)
    page.wait_for_function(f"document.querySelectorAll('#front circle').length == {before + 2}")
    assert f"{len(trials) + 2} trials" in page.locator("#status").inner_text()
    # Those that the search found lie upon each other.
    chosen = RecordedStudy(study).trials[-1]
    page.locator(f'#front circle[data-trial="{chosen.number}"]').click()
    page.wait_for_selector(f"#detail h3:has-text('Trial {chosen.number}')")
    text = page.locator("#detail").inner_text()
    for kernel in chosen.parameters.kernels.values():
        assert f"{kernel.max_weight_position:.2f}" in text
    assert page.locator("#detail svg polyline").count() == len(chosen.parameters.kernels)
    page.locator("#show-examples").click()
    page.wait_for_selector("#examples h4")
    assert page.locator("#examples h4").count() == 3
    add_trials(study, 1)
    page.wait_for_function(f"document.querySelectorAll('#front circle').length == {before + 3}")
    assert f"Trial {chosen.number}" in page.locator("#detail").inner_text(), "what was chosen stays"


def test_a_point_is_reached_by_keys(page: Any) -> None:
    last = page.locator("#front circle.front").last
    last.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#detail h3:has-text('Trial {last.get_attribute('data-trial')}')")


def test_two_answer_side_by_side(page: Any) -> None:
    for said, times in (("word1 trigger1", 1), ("word2 trigger2", 2)):
        page.locator("#say textarea").fill(said)
        page.locator("#send").click()
        page.wait_for_function(f"(document.querySelector('#left').innerText.match(/sorry/g) || []).length >= {times}")
        page.wait_for_function(f"(document.querySelector('#right').innerText.match(/sure/g) || []).length >= {times}")
    page.locator("#anew").click()
    page.wait_for_function("!document.querySelector('#right').innerText.includes('sure')")


def test_the_chosen_trial_is_written(page: Any, study: Path) -> None:
    page.get_by_role("tab", name="Export").click()
    page.locator("#output textarea, #output input").first.fill(str(study.parent / "edited"))
    page.locator("#write").click()
    page.wait_for_function("document.querySelector('#log textarea').value.includes('Saved')")
    assert (study.parent / "edited" / "config.json").exists()
    page.locator("#write").click()
    page.wait_for_function("document.querySelector('#log textarea').value.includes('exists already')")
