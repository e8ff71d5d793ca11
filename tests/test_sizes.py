"""Files and functions are short enough to be read at once, and whatever is kept from the type checker has a reason."""

import ast
import re

import pytest

MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 40  # without the docstring
# A comment for the type checker, and behind it perhaps one for the linter.
IGNORED = re.compile(r"#\s*type:\s*ignore(\[[^]]*\])?(\s*#\s*noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?)?")


def long_files(name: str, text: str) -> list[str]:
    """Say of a file that it is too long."""
    n_lines = len(text.splitlines())
    return [f"{name}: {n_lines} lines, at most {MAX_FILE_LINES} are wanted; split it by idea"] if n_lines > MAX_FILE_LINES else []


def long_functions(name: str, text: str) -> list[str]:
    """Say which functions of a file are too long; one within another counts for both."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                n_lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            if n_lines > MAX_FUNCTION_LINES:
                found.append(f"{name}:{node.lineno}: {node.name} has {n_lines} lines, at most {MAX_FUNCTION_LINES} are wanted")
    return found


def unexplained_ignores(name: str, text: str) -> list[str]:
    """Say in which lines of a file the type checker is turned off without a reason."""
    return [
        f"{name}:{number}: write the type, or `# type: ignore[code]  # reason`"
        for number, line in enumerate(text.splitlines(), 1)
        if (match := IGNORED.search(line)) and not (match[1] and re.search(r"\w", line[match.end() :]))
    ]


CHECKS = [long_files, long_functions, unexplained_ignores]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_package(check, repository):
    offenders = [
        offender
        for path in sorted((repository / "malaria_cells").rglob("*.py"))
        for offender in check(path.relative_to(repository).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not offenders, "\n" + "\n".join(offenders)


def function(n_lines: int, docstring: str = "") -> str:
    return "\n".join(["@decorated", "def f():", *([f"    {docstring}"] if docstring else []), *["    pass"] * (n_lines - 1)])


@pytest.mark.parametrize(
    ("check", "allowed", "refused"),
    [
        (long_files, "a = 1\n" * 250, "a = 1\n" * 251),
        (long_functions, function(40), function(41)),
        (long_functions, function(40, '"""One.\n\n    Two.\n    """'), function(41, '"""One.\n\n    Two.\n    """')),
        (long_functions, "class A:\n    async def f():\n        pass", "class A:\n    async def f():\n" + "        pass\n" * 40),
        (
            unexplained_ignores,
            "a = b()  # type: ignore[attr-defined]  # Keras' classes are untyped",
            "a = b()  # type: ignore[attr-defined]",
        ),
        (
            unexplained_ignores,
            "a = b()  # type: ignore[misc]  # noqa: A001  its name there",
            "a = b()  # type: ignore[misc]  # noqa: A001, B1",
        ),
        (unexplained_ignores, "a = 1  # ignore the type", "a = b()  # type: ignore  # whatever it is"),
    ],
)
def test_what_is_found(check, allowed, refused):
    assert check("a.py", allowed) == []
    assert len(check("a.py", refused)) == 1
    assert check("a.py", refused)[0].startswith("a.py:")
