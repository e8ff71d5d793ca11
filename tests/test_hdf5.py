"""Files of weights: those that point at other files, declare what they do not hold, or stop the HDF5 library."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from malaria_cells.base.errors import InputError
from malaria_cells.models.stored import hdf5
from malaria_cells.models.stored.hdf5 import RefusedError, values_in
from malaria_cells.models.stored.keras2 import load_keras2


def write_links(path):
    with h5py.File(path, "w") as file:
        file["layer/kernel"] = np.zeros((3, 4), np.float32)
        file["layer/link"] = h5py.ExternalLink("/etc/hostname", "/")


def write_soft_link(path):
    with h5py.File(path, "w") as file:
        file["link"] = h5py.SoftLink("/nowhere")


def write_external_values(path):
    (path.parent / "secret").write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel", (16,), "f4", external=[(str(path.parent / "secret"), 0, 64)])


def write_virtual(path):
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", (16,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("layer/kernel", layout)


def write_huge(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel", (10**6, 10**6), "f4", chunks=(100, 100))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_links, "its 'layer/link' is a link to another object or file"),
        (write_soft_link, "its 'link' is a link to another object or file"),
        (write_external_values, "the values of its 'layer/kernel' are in another file"),
        (write_virtual, "the values of its 'layer/kernel' are in another file"),
        (write_huge, "its 'layer/kernel' declares 1,000,000,000,000 values but does not hold them"),
        (lambda path: path.write_bytes(hdf5.SIGNATURE + bytes(100)), "Unable to .*open file"),
    ],
)
def test_what_is_not_in_the_file_is_refused(write, message, tmp_path):
    write(tmp_path / "m.h5")
    with pytest.raises(RefusedError, match=message):
        values_in(tmp_path / "m.h5")
    with pytest.raises(RefusedError, match=message):
        values_in((tmp_path / "m.h5").read_bytes())
    with pytest.raises(InputError, match=rf"m\.h5: not a model of Keras 2 that can be loaded: {message}"):
        load_keras2(tmp_path / "m.h5")


def test_values_are_counted_groups_that_hold_each_other_included(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a/kernel"] = np.zeros((3, 4), np.float32)
        file["a/self"] = file["a"]
        file.create_dataset("packed", data=np.zeros(10_000), compression="gzip")
    assert values_in(tmp_path / "m.h5") == 10_012


def test_a_look_that_never_ends_is_ended(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "endless.py"))
    monkeypatch.setattr(hdf5, "SECONDS", 0.2)
    with pytest.raises(RefusedError, match="reading its HDF5 did not end within 0 seconds"):
        values_in(b"endless")


def test_a_look_that_ends_the_process_is_told(tmp_path, monkeypatch):
    (tmp_path / "crash.py").write_text("import os\nos.abort()\n")
    monkeypatch.setattr(hdf5, "__file__", str(tmp_path / "crash.py"))
    with pytest.raises(RefusedError, match="the HDF5 library crashed on this file"):
        values_in(b"crash")


def test_the_process_imports_nothing_of_ours():
    code = f"import sys, runpy; runpy.run_path({hdf5.__file__!r}); print([m for m in sys.modules if m.startswith(('malaria', 'numpy'))])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=Path(hdf5.__file__).parent)
    assert done.stdout.strip() == "[]"
