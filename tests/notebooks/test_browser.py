"""The released notebook in JupyterLab in a browser, as a student sees it; `FCOS_SCREENSHOTS=DIR` keeps the pictures."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from student_copy import ROOT, make_student_copy

from autograder.tasks import load_tasks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
INSTALL = "this test needs chromium and playwright: apt-get install chromium; pip install -r requirements-dev.txt"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# Of JupyterLab: every cell is in the page, also those that cannot be seen; and nobody is asked about news.
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
# Cell -> name of its screenshot: what the pictures of a student's first hour are.
SCREENSHOTS = {"task-1-1": "check", "train": "loss", "detections": "detections", "map": "ap", "check-all": "card"}
# Cell -> pictures that the browser has really drawn in it.
PICTURES = {"look": 1, "all-locations": 1, "levels": 1, "centerness-map": 1, "train": 1, "detections": 1, "map": 3}
DONE = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent);
    return prompts.length > 0 && prompts.every(text => /\\[\\d+\\]/.test(text));
}"""


def missing_browser(reason: str) -> None:
    """Skip on a machine without a browser; in CI it has to be there."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of JupyterLab in a student's folder."""
    folder = make_student_copy(tmp_path_factory.mktemp("browser") / "my fcos", ROOT / "solutions")
    home, port = tmp_path_factory.mktemp("home"), free_port()
    for name, setting in SETTINGS.items():
        path = home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(setting)
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "OMP_NUM_THREADS": "1",
        "FCOS_MAX_ITERS": os.environ.get("FCOS_MAX_ITERS", "30"),
        "FCOS_DATA": str(home / "data"),
        "FCOS_NAME": "Ada Example",
        "FCOS_STUDENT_ID": "ada01",
    }
    options = {
        "ServerApp.root_dir": folder,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.ip": "127.0.0.1",
        "IdentityProvider.token": "ada",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    log = home / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/api/status?token=ada", timeout=10).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
        yield f"{address}/lab/tree/one_stage_detector.ipynb?token=ada&reset"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory) -> Path:
    folder = Path(os.environ.get("FCOS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(request):
    """The page, after all its cells have run, and what it asked of other machines."""
    if CHROMIUM is None:
        missing_browser(INSTALL)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing_browser(INSTALL)
    address = request.getfixturevalue("lab")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.elsewhere = []

        def stay_here(route):
            if route.request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
                route.continue_()
            else:
                page.elsewhere.append(route.request.url)
                route.abort()

        page.route("**/*", stay_here)
        page.goto(address, timeout=120_000)
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=120_000)
        page.get_by_text("Python 3", exact=False).first.wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(DONE, timeout=900_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def cells(page) -> dict:
    """Cell id -> its place in the page."""
    notebook = nbformat.read(ROOT / "notebooks/one_stage_detector.ipynb", as_version=4)
    places = page.locator(".jp-Notebook .jp-Cell")
    assert places.count() == len(notebook.cells)
    return {cell.id: places.nth(n) for n, cell in enumerate(notebook.cells)}


@pytest.mark.timeout(1200)
def test_no_cell_shows_an_error(page):
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
    assert errors == []
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts() == []


@pytest.mark.timeout(1200)
def test_every_check_shows_a_table_with_all_its_points(cells):
    for task in load_tasks().graded:
        public = sum(part.points for part in task.parts if not part.hidden)
        place = cells["task-" + task.id.replace(".", "-")].locator(".jp-OutputArea-output")
        assert (f"{public} of {public} points" if public else "has no public test") in place.inner_text()
        assert (place.locator("table tr").count() > 1) == bool(public)


@pytest.mark.timeout(1200)
def test_pictures_are_drawn_and_fit_into_the_page(cells):
    for cell_id, count in PICTURES.items():
        pictures = cells[cell_id].locator(".jp-OutputArea-output img")
        sizes = pictures.evaluate_all(
            "found => found.map(one => [one.naturalWidth, one.getBoundingClientRect().right])"
        )
        assert len(sizes) == count, cell_id
        assert all(width > 100 and right <= 1280 for width, right in sizes), (cell_id, sizes)


@pytest.mark.timeout(1200)
def test_screenshots_show_something(cells, screenshots):
    for cell_id, name in SCREENSHOTS.items():
        shown = cells[cell_id].locator(".jp-OutputArea-output img")
        # The whole output of the loss: where its progress bar stands belongs to what is seen.
        if shown.count() == 0 or cell_id == "train":
            shown = cells[cell_id].locator(".jp-Cell-outputWrapper")
        for n in range(shown.count()):
            path = screenshots / f"{name}{n or ''}.png"
            shown.nth(n).screenshot(path=path)
            assert path.stat().st_size > 5000, path.name


@pytest.mark.timeout(1200)
def test_formulas_are_set_and_nothing_is_fetched_from_elsewhere(page, cells):
    assert cells["centerness-text"].locator("mjx-container").count() > 0
    assert page.elsewhere == []


@pytest.mark.timeout(1200)
def test_saved_notebook_is_handed_in_with_its_outputs(page, cells):
    page.locator(".jp-Notebook").press("Control+s")
    page.wait_for_function("() => !document.querySelector('.jp-mod-dirty')", timeout=60_000)
    output = cells["submit"].locator(".jp-OutputArea-output")
    cells["submit"].locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(500)
    page.wait_for_function(DONE, timeout=120_000)
    assert "opened again and complete" in output.inner_text()
    assert "without its outputs" not in output.inner_text()
