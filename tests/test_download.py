"""``download.sh`` really run, against a small server on loopback that holds archives of the genuine structure."""

import base64
import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import urllib.parse
import zipfile
from pathlib import Path

import pytest

from malaria_cells.app.commands import download_unpack
from malaria_cells.app.commands.download import SAMPLE
from malaria_cells.app.commands.download_archives import ARCHIVES
from malaria_cells.base.errors import InputError
from tests.conftest import bbbc041_entry
from tests.mirror import archive, serving

PATHS = {"bbbc041": "/bbbc/BBBC041/malaria.zip", "iml": ARCHIVES["iml"].url.split("github.com", 1)[1]}


@pytest.fixture
def bbbc041_zip():
    entry = bbbc041_entry("/images/a.png", [("ring", 5, 5, 30, 30)])
    noise = os.urandom(300_000)
    return archive({"malaria/images/a.png": noise, "malaria/training.json": json.dumps([entry]).encode(), "malaria/test.json": b"[]"})


@pytest.fixture
def mirror(bbbc041_zip):
    with serving({PATHS["bbbc041"]: bbbc041_zip}) as server:
        yield server


def download(repository, tmp_path, mirror, *arguments):
    env = os.environ | {"MALARIA_CELLS_MIRROR": mirror.url, "MALARIA_CELLS_RETRY_SECONDS": "0.01"}
    return subprocess.run(
        ["bash", str(repository / "download.sh"), *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )


def everything(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def test_without_a_name_it_is_bbbc041(repository, tmp_path, mirror):
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path / "data") == {f"bbbc041{p}" for p in ("", "/images", "/images/a.png", "/training.json", "/test.json")}
    assert "next:  python train.py --config=config.yaml" in done.stdout


def test_already_there_asks_no_server(repository, tmp_path, mirror):
    download(repository, tmp_path, mirror)
    asked = len(mirror.requests)
    again = download(repository, tmp_path, mirror, "bbbc041")
    assert again.returncode == 0
    assert "already there" in again.stdout
    assert "next:" in again.stdout
    assert len(mirror.requests) == asked


def test_broken_connections_are_resumed_within_a_call(repository, tmp_path, mirror):
    mirror.cut, mirror.breaks = 100_000, 2
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert [r for _, r in mirror.requests] == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "data" / "bbbc041" / "training.json").is_file()


def test_a_download_that_failed_is_continued_by_the_next_call(repository, tmp_path, mirror):
    mirror.cut, mirror.breaks = 20_000, 100
    failed = download(repository, tmp_path, mirror)
    assert failed.returncode == 2
    assert re.search(r"Check the network\. [\d,]+ bytes are kept in .*run the command again", failed.stderr)
    assert not (tmp_path / "data" / "bbbc041").exists()
    mirror.breaks = 0
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert mirror.requests[-1][1] == "bytes=100000-"
    assert everything(tmp_path / "data") >= {"bbbc041/images/a.png"}


def test_a_server_without_ranges_sends_it_whole(repository, tmp_path, mirror):
    mirror.cut, mirror.breaks, mirror.ranges = 100_000, 1, False
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 0, done.stderr


def test_an_archive_that_changed_meanwhile_is_fetched_anew(repository, tmp_path, mirror, bbbc041_zip):
    mirror.cut, mirror.breaks = 50_000, 100
    assert download(repository, tmp_path, mirror).returncode == 2
    mirror.breaks = 0
    mirror.files[PATHS["bbbc041"]] = archive({"new/training.json": b"[1]", "new/images/b.png": os.urandom(300_000)})
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "bbbc041" / "training.json").read_bytes() == b"[1]"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda z: z[: len(z) // 2], "the archive is damaged"),
        (lambda z: z[:50_000] + bytes(1000) + z[51_000:], "fails its checksum"),
        (lambda z: b"<html>maintenance</html>", "the archive is damaged"),
    ],
)
def test_a_corrupt_archive_is_not_unpacked(repository, tmp_path, mirror, bbbc041_zip, damage, message):
    mirror.files[PATHS["bbbc041"]] = damage(bbbc041_zip)
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 2
    assert message in done.stderr
    assert everything(tmp_path / "data") == set()  # the next call begins anew
    mirror.files[PATHS["bbbc041"]] = bbbc041_zip
    assert download(repository, tmp_path, mirror).returncode == 0


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "malaria/../../outside.txt", "..\\outside.txt", "C:/outside.txt"])
def test_members_that_would_land_outside_are_refused(repository, tmp_path, mirror, name):
    mirror.files[PATHS["bbbc041"]] = archive({"malaria/training.json": b"[]", name: b"evil"})
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 2
    assert "would be written outside" in done.stderr
    assert not list(tmp_path.rglob("outside.txt"))
    assert not (tmp_path / "data" / "bbbc041").exists()


@pytest.fixture
def unpack(tmp_path):
    """Unpacks an archive's bytes as a fetched BBBC041."""

    def unpack(content):
        part = tmp_path / ".bbbc041.zip.part"
        part.write_bytes(content)
        download_unpack.unpack(part, ARCHIVES["bbbc041"], tmp_path / "bbbc041", {})

    return unpack


def test_an_archive_that_unpacks_to_a_disk_full_is_refused(unpack, tmp_path, monkeypatch):
    monkeypatch.setattr(download_unpack, "LARGE", 1_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("malaria/training.json", b"[]")
        zipped.writestr("malaria/zeros.png", bytes(3_000_000))
    with pytest.raises(InputError, match="would unpack to 3,000,002, which images cannot"):
        unpack(buffer.getvalue())
    assert everything(tmp_path) == {".bbbc041.zip.part"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_whose_members_would_be_lost_are_refused(unpack, tmp_path):
    with pytest.raises(InputError, match="a member's name is longer than 255 bytes"):
        unpack(archive({"malaria/training.json": b"[]", f"malaria/{'a' * 300}.png": b""}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for content in (b"[]", b"[1]"):
            zipped.writestr("malaria/training.json", content)
    with pytest.raises(InputError, match=r"two members have the name 'malaria/training\.json'"):
        unpack(buffer.getvalue())


def test_whatever_is_wrong_with_an_archive_is_a_sentence(unpack, bbbc041_zip, tmp_path):
    """An encrypted member, and bytes changed all over."""
    encrypted = bytearray(archive({"malaria/training.json": b"[]" * 50}))
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        encrypted[encrypted.index(start) + (6 if start[2] == 3 else 8)] |= 1
    with pytest.raises(InputError, match="is encrypted"):
        unpack(bytes(encrypted))
    small = archive({"malaria/training.json": json.dumps(list(range(200))).encode(), "malaria/images/a.png": b"abc" * 50})
    rng = random.Random(0)
    for _ in range(400):
        changed = bytearray(small)
        for _ in range(3):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        shutil.rmtree(tmp_path / "bbbc041", ignore_errors=True)
        with contextlib.suppress(InputError):
            unpack(bytes(changed))


def test_a_link_in_the_archive_is_refused(repository, tmp_path, mirror):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("malaria/training.json", b"[]")
        link = zipfile.ZipInfo("malaria/images")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc")
    mirror.files[PATHS["bbbc041"]] = buffer.getvalue()
    assert "would be written outside" in download(repository, tmp_path, mirror).stderr


def test_several_names_in_their_own_layouts(repository, tmp_path, mirror):
    iml = [{"image_name": "PA171710.JPG", "objects": [{"type": "ring", "bbox": {"x": "1", "y": "2", "h": "30", "w": "31"}}]}]
    mirror.files[PATHS["iml"]] = archive({"repo-main/README.md": b"", "repo-main/Dataset/annotations.json": json.dumps(iml).encode()})
    done = download(repository, tmp_path, mirror, "iml", "bbbc041")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "iml" / "annotations.json").is_file()
    assert (tmp_path / "data" / "bbbc041" / "training.json").is_file()
    assert "configs/iml.yaml" in done.stdout


def test_absent_on_the_server(repository, tmp_path, mirror):
    mirror.files.clear()
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 2
    assert "the server answers 404" in done.stderr
    assert len(mirror.requests) == 1  # asking again would not help
    assert everything(tmp_path / "data") == set()


def test_names(repository, tmp_path, mirror):
    listed = download(repository, tmp_path, mirror, "--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "bbbc041",
        "iml",
        "nih",
        "ena24",
        "bccd",
        "pneumonia",
        "cassava",
        SAMPLE,
    ]
    wrong = download(repository, tmp_path, mirror, "bbbc41")
    assert (wrong.returncode, "did you mean 'bbbc041'?" in wrong.stderr) == (2, True)
    assert not mirror.requests
    assert not (tmp_path / "data").exists()


def test_files_in_the_way_are_kept(repository, tmp_path, mirror):
    (tmp_path / "data" / "bbbc041").mkdir(parents=True)
    (tmp_path / "data" / "bbbc041" / "mine.txt").write_text("mine")
    done = download(repository, tmp_path, mirror)
    assert done.returncode == 2
    assert "move it away" in done.stderr
    assert (tmp_path / "data" / "bbbc041" / "mine.txt").read_text() == "mine"


def test_the_sample_needs_no_server(repository, tmp_path, monkeypatch, capsys):
    from malaria_cells.app.cli import main
    from malaria_cells.data import sample as package

    rendered = package.write_sample
    monkeypatch.setattr(package, "write_sample", lambda folder, **_: rendered(folder, training=2, test=1, seed=1, size_wh=(320, 240)))
    monkeypatch.setenv("MALARIA_CELLS_MIRROR", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    assert main(["download", "sample"]) == 0
    assert (tmp_path / "data" / "sample" / "training.json").is_file()
    assert "next:  python train.py" in capsys.readouterr().out
    assert main(["download", "sample"]) == 0
    assert "already there" in capsys.readouterr().out


def path_of(name):
    return urllib.parse.urlparse(ARCHIVES[name].url).path


def one_each(folder, *names):
    return {f"{folder}/{name}": b"content" for name in names}


@pytest.mark.parametrize(
    ("name", "members", "found"),
    [
        ("nih", one_each("cell_images", "Parasitized/a.png", "Uninfected/b.png", "Uninfected/Thumbs.db"), "Parasitized/a.png"),
        (
            "bccd",
            one_each("BCCD_Dataset-master/BCCD", "Annotations/a.xml", "JPEGImages/a.jpg", "ImageSets/Main/test.txt"),
            "Annotations/a.xml",
        ),
        (
            "pneumonia",
            one_each("__MACOSX/chest_xray", "train/._x") | one_each("chest_xray", "train/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg"),
            "test/PNEUMONIA/b.jpeg",
        ),
    ],
)
def test_other_public_sets_in_their_own_layouts(repository, tmp_path, mirror, name, members, found):
    mirror.files[path_of(name)] = archive(members)
    done = download(repository, tmp_path, mirror, name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / name / found).read_bytes() == b"content"
    assert f"configs/{name}.yaml" in done.stdout
    assert (repository / "configs" / f"{name}.yaml").is_file()


def test_ena24_has_its_annotation_beside_the_archive(repository, tmp_path, mirror):
    mirror.files[path_of("ena24")] = archive(one_each("images", "1.jpg", "2.jpg"))
    mirror.files["/public-datasets-lila/ena24/ena24.json"] = b'{"images": []}'
    done = download(repository, tmp_path, mirror, "ena24")
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path / "data") == {f"ena24{p}" for p in ("", "/annotations.json", "/images", "/images/1.jpg", "/images/2.jpg")}


def test_cassava_needs_a_token(repository, tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    for key in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(key, raising=False)
    mirror.files[path_of("cassava")] = archive({"train.csv": b"image_id,label\n", "train_images/1.jpg": b""})
    refused = download(repository, tmp_path, mirror, "cassava")
    assert refused.returncode == 2
    assert f"there is no token at {tmp_path / 'kaggle' / 'kaggle.json'}" in refused.stderr
    assert "Create New Token" in refused.stderr
    assert ARCHIVES["cassava"].rules in refused.stderr
    assert not mirror.requests
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "kaggle.json").write_text("{}")
    assert "create a new token" in download(repository, tmp_path, mirror, "cassava").stderr
    (tmp_path / "kaggle" / "kaggle.json").write_text('{"username": "me", "key": "secret"}')
    mirror.status = 403
    assert "rules are not accepted" in download(repository, tmp_path, mirror, "cassava").stderr
    mirror.status = None
    done = download(repository, tmp_path, mirror, "cassava")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "cassava" / "train.csv").is_file()
    assert mirror.authorizations[-1] == "Basic " + base64.b64encode(b"me:secret").decode()
