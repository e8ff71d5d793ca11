"""The lock files: each file that is installed has a hash, and nothing that `pyproject.toml` asks for is missing."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS_OF = {"core": (), "page": ("page",), "container": ("page", "export"), "test": ("test",), "lowest": ("test",)}
ENTRY = re.compile(r"(?P<requirement>[a-z0-9-]+==[^ ;]+(?: ; [^\\]+?)?)(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)")
PYTHONS, SYSTEMS = ("3.11", "3.12", "3.13", "3.14"), {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def entries(repository, name):
    """What a lock file holds, by name: requirements, of which there may be several with markers, and the hashes of each."""
    text = (repository / "locks" / f"{name}.lock").read_text(encoding="utf-8")
    found = {}
    for line in re.sub(r" *\\\n *", " ", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        match = ENTRY.fullmatch(line.strip())
        assert match is not None, f"locks/{name}.lock: {line[:100]!r} is no version with hashes; write the file by: make lock"
        requirement = Requirement(match["requirement"])
        found.setdefault(requirement.name, []).append((requirement, frozenset(match["hashes"].split())))
    return found


def environments():
    """Python versions and systems, as markers name them."""
    for python in PYTHONS:
        for system, platform in SYSTEMS.items():
            yield {
                "python_version": python,
                "python_full_version": f"{python}.7",
                "sys_platform": system,
                "platform_system": platform,
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "extra": "",
            }


def wanted(project, extras):
    """What `pyproject.toml` asks for with extras, of which one may name others."""
    for text in (*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])):
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            yield from wanted(project, sorted(requirement.extras))
        else:
            yield requirement


@pytest.mark.parametrize("name", EXTRAS_OF)
def test_each_dependency_is_locked_with_hashes(repository, name):
    locked = entries(repository, name)
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in wanted(project, EXTRAS_OF[name]):
        versions = locked.get(canonicalize_name(requirement.name))
        assert versions, f"locks/{name}.lock lacks {requirement}; run: make lock"
        for environment in environments():
            here = [r for r, _ in versions if r.marker is None or r.marker.evaluate(environment)]
            assert len(here) == 1, f"{requirement}, {environment}"
            version = str(here[0].specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"locks/{name}.lock has {here[0]}, expected {requirement}; run: make lock"


@pytest.mark.parametrize("name", ["core", "page", "container", "build", "opencv"])
def test_versions_are_those_of_the_tests(repository, name):
    def pinned(locked):
        return {(str(r.specifier), hashes) for r, hashes in locked}

    tested = entries(repository, "test")
    for library, locked in entries(repository, name).items():
        assert library in tested
        assert pinned(locked) <= pinned(tested[library]), library


@pytest.mark.parametrize("name", ["build", "opencv"])
def test_what_is_installed_twice_is_the_same(repository, name):
    for whole in EXTRAS_OF:
        locked = entries(repository, whole)
        assert all(
            [hashes for _, hashes in locked[library]] == [hashes for _, hashes in once]
            for library, once in entries(repository, name).items()
        )


def test_only_lock_files_that_are_there_are_installed(repository):
    there = {f"locks/{path.name}" for path in (repository / "locks").iterdir()}
    for place in ("Makefile", "Dockerfile", ".github/workflows/ci.yml", "CONTRIBUTING.md"):
        text = (repository / place).read_text(encoding="utf-8")
        assert set(re.findall(r"locks/[a-z]+\.lock", text)) <= there
        installs = [line for line in re.findall(r"pip\S* .*\binstall .*", text) if "--no-deps" not in line]
        for line in installs:
            assert "--require-hashes" in line or re.search(r"install (uv|pip-audit)\b", line) or place == "CONTRIBUTING.md", line


def test_an_entry_without_a_hash_is_noticed(tmp_path):
    (tmp_path / "locks").mkdir()
    for content in ("pillow==13.0.0\n", "pillow>=13 \\\n    --hash=sha256:" + "0" * 64, "--index-url https://mirror\n", "-e .\n"):
        (tmp_path / "locks" / "test.lock").write_text(content)
        with pytest.raises(AssertionError, match="is no version with hashes"):
            entries(tmp_path, "test")
