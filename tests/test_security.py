"""Promises of SECURITY.md that no other test holds."""

import contextlib

import numpy as np
import pytest

from malaria_cells.app.cli import _parser
from malaria_cells.app.page import app
from malaria_cells.app.page.review_file import save_correction
from malaria_cells.app.page.uploads import UploadedImage, sample_smear
from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.source import Source
from malaria_cells.data.labels import LabelSet
from tests.test_page import page  # noqa: F401  a fixture

BILLION = "<!DOCTYPE a [<!ENTITY b 'x'>" + "".join(f"<!ENTITY b{i} '{f'&b{i - 1 or str()};' * 10}'>" for i in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'http://127.0.0.1:1/x'>]>",
        "<!DOCTYPE a [<!ENTITY % b SYSTEM 'http://127.0.0.1:1/x'> %b;]>",
        "<!DOCTYPE a [<!ENTITY b 'text'>]>",
        BILLION,
    ],
)
def test_xml_with_entities_is_refused(doctype, tmp_path):
    (tmp_path / "a.xml").write_text(f"{doctype}<annotation><filename>&b;</filename></annotation>", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.xml: declares XML entities, which are not expanded"):
        _ = Source(tmp_path / "a.xml").xml


def test_the_page_listens_on_loopback_unless_it_is_told_otherwise():
    assert _parser().parse_args(["page"]).address == "127.0.0.1"


@pytest.mark.parametrize("name", ["../../x.png", "/etc/x.png", "..", "a/../../x.png", "CON.png", ".hidden.png"])
def test_no_name_of_an_upload_leads_out_of_the_review_folder(name, tmp_path):
    pixels = np.full((80, 100, 3), 90, np.uint8)
    image = UploadedImage(name, sample_smear(), pixels, None)
    folder = tmp_path / "inner" / "review"
    folder.parent.mkdir()
    with contextlib.suppress(InputError):  # refused: nothing is written at all, or only below the review folder
        save_correction(folder, image, np.array([[5, 6, 30, 41]], np.float32), np.array([0]), LabelSet(("ring",)))
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert all(p.is_relative_to(folder) for p in written), written


@pytest.mark.slow
def test_uploads_are_limited_in_number_and_forgotten_when_they_are_removed(page, monkeypatch):  # noqa: F811
    monkeypatch.setattr(app, "MAX_IMAGES", 1)
    page.run()
    uploads = [(f"{i}.png", sample_smear(), "image/png") for i in range(2)]
    page.file_uploader(key="files").set_value(uploads).run()
    assert "2 images; the page takes up to 1 at a time" in page.error[0].value
    assert len(page.session_state["known"]) == 1
    page.file_uploader(key="files").set_value([]).run()
    assert page.session_state["known"] == {}
