"""The recipes of docs/cluster: the one for Slurm runs with stand-ins for Slurm's commands, the one for Kubernetes has KubeRay's fields."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.tiny_exports import save_export

only_posix = pytest.mark.skipif(os.name == "nt", reason="the recipe is a shell script")
OTHER = "second"  # name of the machine that this one also plays
# Starts the command here, as Slurm does on another machine.
SRUN = """#!/bin/bash
echo "$@" >> "$STAND_IN_LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = f"""#!/bin/bash
[ "$*" = "show hostnames both" ] || exit 1
hostname
echo {OTHER}
"""
# The run itself, once both machines are there: on these few images one of them would be done before the other one has started.
RUN = """#!/bin/bash
until [ "$(grep -c 'Ray runtime started' "$JOB_LOG")" = 2 ]; do sleep 0.2; done
exec python run.py "${@:2}"
"""


def stand_ins(folder, **scripts):
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def ray_folder():
    """A folder with a short name: Ray's sockets lie in it, and a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


def slurm(repository, tmp_path, ray_folder, *words):
    """Run the recipe as a job of two machines with a processor each."""
    commands = tmp_path / "commands"
    commands.mkdir()
    stand_ins(commands, srun=SRUN, scontrol=SCONTROL, **{"malaria-cells": RUN})
    job = {"SLURM_JOB_NODELIST": "both", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "1"}
    paths = {
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(repository),
        "STAND_IN_LOG": str(tmp_path / "srun.log"),
        "JOB_LOG": str(tmp_path / "log.txt"),
        "RAY_TMPDIR": ray_folder,
    }
    script = ["bash", str(repository / "docs/cluster/slurm.sh"), *map(str, words)]
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(script, cwd=repository, env=os.environ | job | paths, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return code, (tmp_path / "log.txt").read_text()


@only_posix
@pytest.mark.slow
def test_the_recipe_for_slurm_detects_on_two_machines(repository, sample, tmp_path, ray_folder):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'malaria-cells[ray]'")
    import pyarrow.parquet as pq

    images, model = tmp_path / "images", tmp_path / "model"
    images.mkdir()
    for path in sorted((sample / "images").iterdir())[:6]:
        shutil.copy(path, images)
    save_export(model, 6)
    code, said = slurm(repository, tmp_path, ray_folder, images, tmp_path / "detected", "--model", model, "--part-images", "1")
    assert code == 0, said
    assert said.count("Ray runtime started") == 2
    assert "6 images done" in said
    counts = pq.read_table(tmp_path / "detected" / "counts.parquet").to_pydict()
    assert counts["image"] == sorted(p.name for p in images.iterdir())
    cells = pq.read_table(tmp_path / "detected" / "cells").to_pydict()
    assert set(cells["image"]) == set(counts["image"])
    (asked,) = (tmp_path / "srun.log").read_text().splitlines()
    assert asked.startswith(f"--nodes=1 --ntasks=1 --nodelist={OTHER} ray start --address=")
    left = subprocess.run(["pgrep", "-f", f"raylet.*{ray_folder}"], capture_output=True, text=True, check=False)
    assert not left.stdout, "the job has ended and Ray has not"


@only_posix
@pytest.mark.parametrize("code", [2, 3])
def test_the_recipe_for_slurm_ends_with_the_exit_code(repository, tmp_path, ray_folder, code):
    """Stand-ins for Ray as well: what counts is the order of the commands, and what is left of them."""
    commands = tmp_path / "commands"
    waiting = 'echo "$@" >> "$STAND_IN_LOG"; [ "$1" = start ] && exec sleep 1000; echo " 1 node_7"'
    both = 'until [ "$(grep -c ^start "$STAND_IN_LOG")" = 2 ]; do sleep 0.1; done'
    ray, run = f"#!/bin/bash\n{waiting}\n", f'#!/bin/bash\n{both}\necho run "$@" >> "$STAND_IN_LOG"\nexit {code}\n'
    commands.mkdir()
    address = "#!/bin/bash\necho 192.0.2.7\n"
    stand_ins(commands, srun=SRUN, scontrol=SCONTROL, ray=ray, python=address, **{"malaria-cells": run})
    environment = os.environ | {"PATH": os.pathsep.join([str(commands), os.environ["PATH"]])}
    job = {"SLURM_JOB_NODELIST": "both", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "3"}
    environment |= job | {"STAND_IN_LOG": str(tmp_path / "log")}
    done = subprocess.run(
        ["bash", repository / "docs/cluster/slurm.sh", "my archive", "out", "--tta", "1"], env=environment, check=False, timeout=60
    )
    assert done.returncode == code
    lines = (tmp_path / "log").read_text().splitlines()
    assert "start --address=192.0.2.7:20007 --num-cpus=3 --block" in lines
    assert "run run --cluster 192.0.2.7:20007 --image my archive --output out --tta 1" in lines


# Fields of KubeRay's RayJob (ray.io/v1) as in its API reference, and of Kubernetes' containers; those with True are required.
FIELDS = {
    "": {"apiVersion": True, "kind": True, "metadata": True, "spec": True},
    "spec": {"entrypoint": False, "backoffLimit": False, "shutdownAfterJobFinishes": False, "rayClusterSpec": False},
    "spec.rayClusterSpec": {"rayVersion": False, "authOptions": False, "headGroupSpec": True, "workerGroupSpecs": False},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams": True, "template": True},
    "spec.rayClusterSpec.workerGroupSpecs": {
        "groupName": True,
        "replicas": False,
        "minReplicas": True,
        "maxReplicas": True,
        "rayStartParams": True,
        "template": True,
    },
}


def check_fields(found, place):
    fields = FIELDS[place]
    assert set(found) <= set(fields), place
    assert {name for name, is_required in fields.items() if is_required} <= set(found), place


def test_the_recipe_for_kubernetes_has_the_fields_of_kuberay(repository):
    job = yaml.safe_load((repository / "docs/cluster/rayjob.yaml").read_text(encoding="utf-8"))
    check_fields(job, "")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    check_fields(job["spec"], "spec")
    cluster = job["spec"]["rayClusterSpec"]
    check_fields(cluster, "spec.rayClusterSpec")
    assert cluster["authOptions"] == {"mode": "token"}
    (workers,) = cluster["workerGroupSpecs"]
    check_fields(cluster["headGroupSpec"], "spec.rayClusterSpec.headGroupSpec")
    check_fields(workers, "spec.rayClusterSpec.workerGroupSpecs")
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    assert type(job["spec"]["backoffLimit"]) is type(workers["replicas"]) is int
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # Kubernetes refuses numbers there
        (container,) = group["template"]["spec"]["containers"]
        assert set(container) == {"name", "image", "resources"}
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], "Ray takes the limits for what it has"
        assert all(isinstance(value, str) for value in resources["limits"].values())


def test_all_name_the_locked_version_of_ray(repository):
    locked = re.search(r"^ray==([0-9.]+)", (repository / "locks/test.lock").read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("rayjob.yaml", "Dockerfile"):
        named = re.findall(r"ray(?::|Version: \"|\[default\]==)([0-9.]+[0-9])", (repository / "docs/cluster" / name).read_text("utf-8"))
        assert named
        assert set(named) == {locked[1]}


@only_posix
@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 1), (3, 0), (130, 1)])
def test_failed_images_do_not_fail_the_job(repository, tmp_path, code, expected):
    job = yaml.safe_load((repository / "docs/cluster/rayjob.yaml").read_text(encoding="utf-8"))
    stand_ins(tmp_path, **{"malaria-cells": f"#!/bin/bash\nexit {code}\n"})
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    # KubeRay puts the text into a shell's command `ray job submit .. -- TEXT`, which joins the words again for another shell.
    submitted = shlex.join(shlex.split(job["spec"]["entrypoint"]))
    for text in (submitted, job["spec"]["entrypoint"]):
        assert subprocess.run(text, shell=True, env=environment, check=False).returncode == expected
