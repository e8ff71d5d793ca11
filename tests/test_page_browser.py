"""The page in a real browser: Chromium, headless, driven by Playwright. `make test-page` installs what it needs."""

import csv
import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from malaria_cells.app.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.browser]

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
STARTED_SECONDS, DETECTED_MS = 60, 90_000
# As root in a container there is no sandbox to be had; the rest keeps Chromium from calling home.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def smear(repository):
    return repository / "docs" / "images" / "smear.jpg"


@pytest.fixture(scope="module")
def chromium():
    """The system's browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium here; make test-page installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(repository, tmp_path_factory):
    """The page, served on a free port until the tests end; its address and the folder of corrections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    review = folder / "review"
    command = [sys.executable, "-m", "malaria_cells", "page", "--port", str(port), "--review", str(review)]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=repository, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, folder / "log.txt")
            yield f"http://127.0.0.1:{port}", review
        finally:
            server.terminate()
            assert server.wait(timeout=20) == 0
        with pytest.raises(urllib.error.URLError):  # nothing of it is left to hold the port
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=2)


def wait_for(address, server, log):
    deadline = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.3)
    pytest.fail(log.read_text())


@pytest.fixture
def opened(chromium, served):
    """Opens the page in a window of a size, with images dropped on it; what it asks of other hosts fails the test."""
    contexts = []

    def with_images(size, *images):
        context = chromium.new_context(viewport=size, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        abroad = []
        page.on("request", lambda r: abroad.append(r.url) if r.url.startswith("http") and not r.url.startswith(served[0]) else None)
        page.goto(served[0])
        page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files([str(p) for p in images])
        page.abroad = abroad
        return page

    yield with_images
    for context in contexts:
        context.close()


def ready(page):
    page.get_by_text("Take home").wait_for(timeout=DETECTED_MS)
    settled(page)
    return page


def settled(page):
    """Wait until no script of the page runs any more."""
    page.wait_for_timeout(400)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=DETECTED_MS)
    page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0", timeout=DETECTED_MS)
    page.wait_for_timeout(400)


def metric(page, name):
    box = page.get_by_test_id("stMetric").filter(has=page.get_by_text(name, exact=True))
    return box.get_by_test_id("stMetricValue").inner_text().strip()


def test_upload_slider_numbers_and_table(opened, smear, tmp_path):
    """The numbers are those of run.py; a higher threshold leaves fewer infected; the table is run.py's table."""
    page = ready(opened(DESKTOP, smear))
    assert main(["run", "--image", str(smear), "--output", str(tmp_path)]) == 0
    with (tmp_path / "counts.csv").open() as file:
        total = list(csv.DictReader(file))[-1]
    assert (metric(page, "Infected"), metric(page, "Red cells")) == (total["infected"], total["red_cells"])
    assert metric(page, "Parasitemia") == f"{100 * float(total['parasitemia']):.2f} %"
    low, high = (f"{100 * float(total[k]):.2f}" for k in ("parasitemia_low", "parasitemia_high"))
    assert page.get_by_text(f"95 % interval {low} to {high} %").is_visible()

    with page.expect_download() as expected:
        page.get_by_role("button", name="Cells, CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(expected.value.path()).read_text())))
    with (tmp_path / "detections.csv").open() as file:
        assert rows == list(csv.DictReader(file))

    thumb = page.get_by_role("slider").first
    thumb.focus()
    page.keyboard.press("End")
    settled(page)
    assert int(metric(page, "Infected")) < int(total["infected"])
    assert int(metric(page, "Red cells")) <= int(total["red_cells"])
    assert page.abroad == []


def test_a_click_on_a_cell_and_a_correction(opened, served, smear):
    page = ready(opened(DESKTOP, smear))
    chart = page.get_by_test_id("stPlotlyChart").first
    assert page.get_by_text("evidence for").is_visible()
    before = page.get_by_text(", score ").inner_text()
    chart.scroll_into_view_if_needed()
    # A cell in the image's lower left: its mark, where Plotly drew it.
    marks = chart.locator("path.point")
    places = [(marks.nth(i).bounding_box(), i) for i in range(marks.count())]
    box, _ = max(places, key=lambda place: place[0]["y"] - place[0]["x"])
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settled(page)
    assert page.get_by_text(", score ").inner_text() != before
    page.get_by_role("combobox", name="Correct label").click()
    page.keyboard.type("schizont")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_role("button", name="Save the correction").click()
    page.get_by_text("holds 1 image.").wait_for(timeout=20_000)
    from malaria_cells.data.annotations import load_annotations
    from malaria_cells.inference.model_folder import shipped
    from malaria_cells.inference.model_yaml import load_description

    labels = load_description(shipped())[0].labels
    (saved,) = load_annotations(served[1] / "annotations.json", labels).images
    assert saved.path.read_bytes() == smear.read_bytes()
    assert (saved.class_ids == labels.names.index("schizont")).sum() >= 1


def test_classes_and_red_cells_can_be_hidden(opened, smear):
    page = ready(opened(DESKTOP, smear))
    chart = page.get_by_test_id("stPlotlyChart").first
    everything = chart.locator("path.point").count()
    assert everything == int(metric(page, "Cells"))
    page.get_by_text("Healthy red cells").click()
    settled(page)
    healthy = int(metric(page, "Red cells")) - int(metric(page, "Infected"))
    assert chart.locator("path.point").count() == everything - healthy


def test_on_a_phone(opened, smear):
    """Everything is there, in one column, and nothing sticks out to the side."""
    page = ready(opened(PHONE, smear))
    assert int(metric(page, "Infected")) > 0
    wide = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert wide <= PHONE["width"]
    with page.expect_download() as expected:
        page.get_by_role("button", name="Counts, CSV").click()
    assert Path(expected.value.path()).read_text().startswith("image,red blood cell,")


def test_every_class_is_in_sight_on_the_narrowest_phone(opened, smear):
    page = ready(opened({"width": 320, "height": 568}, smear))
    row = page.get_by_test_id("stButtonGroup").get_by_role("button", name="schizont").locator("..")
    assert row.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_several_images_one_of_them_none(opened, smear, tmp_path):
    """A broken file and an empty field get a sentence each; the third is worked on as ever."""
    broken, empty = tmp_path / "broken.jpg", tmp_path / "empty.png"
    broken.write_bytes(b"no image at all")
    Image.fromarray(np.full((480, 640, 3), (200, 225, 205), dtype=np.uint8)).save(empty)
    page = ready(opened(DESKTOP, empty, broken, smear))
    assert page.get_by_text("broken.jpg: not an image that can be read").is_visible()
    assert page.get_by_text("No cell is detected in this image").is_visible()
    # An empty field is like nothing that was learned, and left out of the total.
    assert page.get_by_text("1 of 2 images:").is_visible()
    assert page.get_by_text("Traceback").count() == 0
    with page.expect_download(timeout=DETECTED_MS) as expected:
        page.get_by_role("button", name="Report").click()
    assert "Most doubtful cells" in Path(expected.value.path()).read_text()
