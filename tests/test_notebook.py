"""`docs/first_steps.ipynb` runs from its first cell to its last."""

import json
import os
import subprocess
import sys

import pytest


def code_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_it_holds_no_outputs(repository):
    cells = json.loads((repository / "docs" / "first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
def test_it_runs_to_a_scored_detector(repository, tmp_path):
    script = tmp_path / "first_steps.py"
    script.write_text(code_of(repository / "docs" / "first_steps.ipynb"), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = done.stdout.splitlines()
    scored = next(line for line in figures if line.startswith("mAP50 "))
    assert float(scored.split("cell AP50 ")[1].split(",")[0]) > 0.6
    assert any("interval of the parasitemia" in line for line in figures)
