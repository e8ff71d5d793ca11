"""The journal of a run: what it keeps comes back bit for bit, and what a kill tore apart is noticed."""

import errno
import json
import zlib

import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.data.detections import Detections
from malaria_cells.inference.familiarity import UNUSUAL, Familiarity
from malaria_cells.results.journal_lines import FinishedImage, Stamp, content_of, from_json, line_of, to_json
from malaria_cells.results.run_journal import FORMAT, JOURNAL, RunJournal, has_finished_images, read_head

HEAD = {"settings": {"--tta": 4}, "root": "/images", "keys": ["a.jpg", "b.jpg"]}
ARRAYS = ("xyxy", "confidence", "class_id", "counted_as", "objectness", "probabilities", "label_scores", "index")


def detections(n, seed=0):
    rng = np.random.default_rng(seed)
    return Detections(
        rng.uniform(0, 1000, (n, 4)).astype(np.float32),
        rng.uniform(size=n).astype(np.float32),
        rng.integers(0, 6, n),
        rng.integers(-1, 6, n),
        rng.uniform(size=n),
        rng.uniform(size=(n, 7)).astype(np.float32),
        np.zeros((n, 0), dtype=np.float32),
        np.arange(n),
        ("ring", "red blood cell"),
    )


def finished(key, n=3, **values):
    familiarity = Familiarity(UNUSUAL, 1.234, "out of focus", "lab", False)
    return FinishedImage(key, Stamp(1234, 1_700_000_000_123_456_789), (640, 480), 0.1 + 0.2, 99, (detections(n), familiarity), **values)


@pytest.fixture
def journal(tmp_path):
    """A journal of two images."""
    journal = RunJournal.start(tmp_path, HEAD)
    for key in ("a.jpg", "b.jpg"):
        journal.append(finished(key))
    journal.close()
    return journal


def keys(folder):
    journal = RunJournal(folder)
    return [image.key for image in journal.images()], journal.damaged


@pytest.mark.parametrize("n", [0, 1, 200])
def test_an_image_comes_back_bit_for_bit(n):
    before = finished("caf\udce9 a\nb.jpg", n)
    line = line_of(to_json(before))
    assert line.count(b"\n") == 1
    after = from_json(content_of(line))
    for name in ("key", "stamp", "size_wh", "seconds", "drawn_bytes"):
        assert getattr(after, name) == getattr(before, name)
    (cells, familiarity), (expected, verdict) = after.result, before.result
    assert familiarity == verdict
    assert cells.names == expected.names
    for name in ARRAYS:
        found, wanted = getattr(cells, name), getattr(expected, name)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes()
        assert found.flags.aligned


def test_class_probabilities_and_unknown_familiarity_come_back():
    probabilities = np.array([0.1, 0.9], dtype=np.float32)
    image = FinishedImage("a", Stamp(1, 2), (3, 4), 0.5, None, probabilities)
    assert from_json(content_of(line_of(to_json(image)))).result.tobytes() == probabilities.tobytes()
    image = FinishedImage("a", Stamp(1, 2), (3, 4), 0.5, None, (detections(2), None))
    assert from_json(content_of(line_of(to_json(image)))).result[1] is None


def test_every_field_of_detections_is_kept():
    """A field that is added to the class must be kept too, or deliberately left out as `judged` is."""
    from dataclasses import fields

    assert {f.name for f in fields(Detections)} == {*ARRAYS, "names", "judged"}


def test_a_line_torn_anywhere_is_recognised_and_cut_off(journal, tmp_path):
    whole = journal.path.read_bytes()
    start = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for end in {start + 1, start + 5, start + 9, start + 100, len(whole) - 2, len(whole) - 1}:
        journal.path.write_bytes(whole[:end])
        assert keys(tmp_path) == (["a.jpg"], 1)
        again = RunJournal(tmp_path)
        again.append(finished("c.jpg"))
        again.close()
        assert keys(tmp_path) == (["a.jpg", "c.jpg"], 0)


def test_a_changed_byte_and_zeros_are_recognised(journal, tmp_path):
    """As after a power failure, where a part of the file may not have reached the disk."""
    head, first, second = journal.path.read_bytes().splitlines(keepends=True)
    flipped = first[:50] + bytes([first[50] ^ 1]) + first[51:]
    journal.path.write_bytes(head + flipped + second)
    assert keys(tmp_path) == (["b.jpg"], 1)
    journal.path.write_bytes(head + first + b"\0" * len(second))
    assert keys(tmp_path) == (["a.jpg"], 1)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"key": "a.jpg"},
        to_json(finished("a.jpg")) | {"data": ""},
        to_json(finished("a.jpg")) | {"arrays": [["xyxy", "|O", [1, 4]]]},
        to_json(finished("a.jpg")) | {"arrays": [["xyxy", "<f4", [2**40, 4]]]},
        to_json(finished("a.jpg")) | {"stamp": [1]},
    ],
)
def test_a_line_with_a_right_checksum_and_other_content_is_left_out(journal, tmp_path, content):
    with journal.path.open("ab") as file:
        file.write(line_of(content))
    assert keys(tmp_path) == (["a.jpg", "b.jpg"], 1)


def test_the_first_line(tmp_path, journal):
    assert read_head(tmp_path) == {"format": FORMAT, **HEAD}
    assert has_finished_images(tmp_path)
    assert read_head(tmp_path / "nowhere") is None
    assert not has_finished_images(tmp_path / "nowhere")
    RunJournal.start(tmp_path, HEAD)
    assert not has_finished_images(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [JOURNAL]
    journal.remove()
    assert not list(tmp_path.iterdir())


def test_a_damaged_or_foreign_first_line_is_refused(tmp_path, journal):
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:3] + b"x" + whole[4:])
    with pytest.raises(InputError, match=rf"{JOURNAL}: its first line is damaged, .* choose another --output, or delete this file"):
        read_head(tmp_path)
    text = json.dumps({"format": 99}).encode()
    journal.path.write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    with pytest.raises(
        InputError, match=r"has the format 99, expected 1; finish the run with the version that began it, or choose another"
    ):
        read_head(tmp_path)


def test_a_full_disk_is_told_once_and_costs_only_the_lines_that_it_tore(tmp_path, monkeypatch, caplog):
    journal = RunJournal.start(tmp_path, HEAD)
    journal.append(finished("a.jpg"))
    opened = journal._opened

    class Full:
        """Takes a few bytes, and then has no room."""

        def __init__(self, file):
            self.file, self.room = file, 20

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written, self.room = self.file.write(data[: self.room]), 0
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(journal, "_opened", lambda: Full(opened()))
    journal.append(finished("b.jpg"))
    journal.append(finished("c.jpg"))
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.setattr(journal, "_opened", opened)
    journal.append(finished("d.jpg"))
    journal.close()
    assert keys(tmp_path) == (["a.jpg", "d.jpg"], 0)


def test_the_last_whole_line_is_found_in_a_long_file(tmp_path):
    journal = RunJournal.start(tmp_path, HEAD)
    journal.append(finished("a.jpg", 5000))
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b"x" * 200_000)
    again = RunJournal(tmp_path)
    again.append(finished("b.jpg"))
    again.close()
    assert keys(tmp_path) == (["a.jpg", "b.jpg"], 0)
