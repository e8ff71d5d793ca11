"""Data flow one way: a module imports only from those above it in this list."""

import ast
from pathlib import Path

import pytest

ORDER = [
    "base",
    "config",
    "data",
    "models",
    "fitting",
    "proposals",
    "inference",
    "evaluation",
    "training",
    "results",
    "export",
    "api",
    "commands",
    "page",
    "cli",
]
MAY_IMPORT_TENSORFLOW = (
    "data.pipeline",
    "models",
    "fitting",
    "proposals",
    "training",
    "proposals.learned.centre_network",
    "proposals.learned.targets",
    "proposals.learned.training",
)


def imports(path: Path, only_top: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if only_top else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{path}: relative import")
    return found


def modules(repository: Path) -> list[tuple[str, Path]]:
    package = repository / "malaria_cells"
    return [
        (path.relative_to(package).parts[0].removesuffix(".py"), path)
        for path in sorted(package.rglob("*.py"))
        if path.parent != package or path.stem != "__init__"
    ]


def test_every_module_has_its_place(repository):
    assert {name for name, _ in modules(repository)} == set(ORDER)


def test_imports_point_upwards(repository):
    wrong = []
    for name, path in modules(repository):
        for imported in imports(path):
            parts = imported.split(".")
            if parts[0] == "malaria_cells" and len(parts) > 1 and parts[1] in ORDER and ORDER.index(parts[1]) > ORDER.index(name):
                wrong.append(f"{path.name} imports {imported}")
    assert not wrong


def test_tensorflow_is_not_imported_early(repository):
    heavy = {"tensorflow", "keras", "keras_cv"}
    wrong = [
        f"{path}: {i}"
        for _, path in modules(repository)
        if not ".".join(path.relative_to(repository / "malaria_cells").with_suffix("").parts).startswith(MAY_IMPORT_TENSORFLOW)
        for i in imports(path, only_top=True)
        if i.split(".")[0] in heavy
    ]
    assert not wrong
