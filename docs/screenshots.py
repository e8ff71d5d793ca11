"""Makes the images of the documents anew.

    make demo test-page
    .venv/bin/malaria-cells gallery results/demo --explain --model models/demo
    .venv/bin/python docs/screenshots.py

They show what the demonstration's model does on rendered smears; look at each before it is committed.
"""

import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Error, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
RUN, MODEL = Path("results/demo"), Path("models/demo")
SMEAR = "slide51_4.jpg"  # of the test part: one of nearly each class
DETECTED_MS = 90_000


def jpeg(name: str, png: Path | io.BytesIO) -> None:
    """Write one of the images."""
    Image.open(png).convert("RGB").save(IMAGES / f"{name}.jpg", quality=88)


@contextmanager
def served() -> Iterator[str]:
    """The page, with the demonstration's model chosen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen([sys.executable, "-m", "malaria_cells", "page", "--port", port, "--model", str(MODEL)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def with_smear(page: Page, address: str) -> None:
    """Open the page and drop the smear on it."""
    for _ in range(100):
        try:
            page.goto(address)
            break
        except Error:  # the server is not up yet
            time.sleep(0.5)
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(f"data/sample/images/{SMEAR}")
    page.get_by_text("Take home").wait_for(timeout=DETECTED_MS)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(2000)


def main() -> None:
    """Take all of them."""
    jpeg("overlay", RUN / "annotated" / f"{SMEAR}.png")
    jpeg("explained", Path("results/gallery/ring_explained.png"))
    shutil.copyfile("results/gallery/trophozoite.gif", IMAGES / "gallery.gif")
    with sync_playwright() as playwright, served() as address:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1500})
        page.goto((RUN / "report.html").absolute().as_uri())
        jpeg("report", io.BytesIO(page.screenshot()))
        page = browser.new_page(viewport={"width": 1200, "height": 1200})
        with_smear(page, address)
        page.mouse.move(20, 600)  # beside the smear, which the wheel would zoom
        page.mouse.wheel(0, 45)  # past the empty head
        page.wait_for_timeout(500)
        jpeg("page", io.BytesIO(page.screenshot()))
        page = browser.new_page(viewport={"width": 390, "height": 844})
        with_smear(page, address)
        page.get_by_text("Turn the wheel").scroll_into_view_if_needed()
        jpeg("page_phone", io.BytesIO(page.screenshot()))
        browser.close()


if __name__ == "__main__":
    main()
