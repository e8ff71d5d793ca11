"""Reader of untrusted YAML: size, depth and aliases are bounded, and duplicate keys are errors."""

from pathlib import Path
from typing import Any

import yaml

from malaria_cells.base.errors import InputError, reason

MAX_BYTES = 2**21
MAX_DEPTH = 60  # levels of lists and mappings; more would exceed Python's recursion limit
MAX_VALUES = 200_000  # values after expansion of all aliases; nested aliases in a few lines can stand for billions
MAX_DIGITS = 1000  # digits of a whole number; Python refuses to print more than 4,300

_Node = yaml.nodes.Node
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is twenty times faster; most builds of PyYAML include it


def load_yaml(path: Path) -> Any:
    """Read an untrusted YAML file.

    Args:
        path: a file in UTF-8 or UTF-16, with or without a byte order mark, with any line endings.

    Returns:
        The content: None for an empty file, otherwise dictionaries, lists, texts, numbers, dates, booleans and None.

    Raises:
        InputError: the file does not exist, has another encoding or is not valid YAML; a value does not match its tag; a key appears
            twice with different values; or `MAX_BYTES`, `MAX_DEPTH` or `MAX_VALUES` is exceeded.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or reason(error)}; expected a YAML file") from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes | str, source: str) -> Any:
    """Read YAML as `load_yaml` does.

    Args:
        content: content of a file, or a text.
        source: name of the file or option in error messages.

    Raises:
        InputError: as `load_yaml`.

    Examples:
        >>> parse_yaml("epochs: 3", "--set")
        {'epochs': 3}
        >>> parse_yaml("{epochs: 3, epochs: 4}", "--set")
        Traceback (most recent call last):
        ...
        malaria_cells.InputError: --set: line 1: the key 'epochs' appears twice with different values; keep one
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{source}: longer than {MAX_BYTES // 2**20} MiB; expected a short YAML text")
    text = content if isinstance(content, str) else _decoded(content, source)
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_aliases(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _RefusedError as error:
        raise InputError(f"{source}: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {_explained(error, text)}") from None
    except RecursionError:
        raise InputError(f"{source}: nested too deeply; expected at most {MAX_DEPTH} levels") from None


class _RefusedError(ValueError):
    """Raised for valid YAML that this reader refuses."""


class _Loader(_Base):
    """The safe loader, but it refuses duplicate keys and raises only `yaml.YAMLError` and `_RefusedError`."""

    def construct_object(self, node: _Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            if isinstance(error, _RefusedError):
                raise
            value = _shortened(str(node.value)) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            what = _TAGS.get(node.tag, node.tag)
            raise _RefusedError(f"{_line(node)}: {value} cannot be read as {what}; write it in quotes if it is a text") from None

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return super().construct_mapping(node, deep)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        values: dict[tuple[str, str], _Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            before = values.setdefault((key.tag, key.value), value)
            same = isinstance(before, yaml.ScalarNode) and (before.tag, before.value) == (value.tag, value.value)
            if before is not value and not same:
                raise _RefusedError(f"{_line(key)}: the key '{_shortened(key.value)}' appears twice with different values; keep one")

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Construct a whole number; refuse those that YAML 1.1 reads in an unexpected way, such as 010 (8) and 1:30 (90)."""
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits or (digits.startswith("0") and digits.isdigit() and len(digits) > 1):
            raise _RefusedError(f"{_line(node)}: {_shortened(node.value)} is not a plain number; write it in quotes if it is a text")
        if len(digits) > MAX_DIGITS:
            raise ValueError
        return self.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)

_TAGS = {
    "tag:yaml.org,2002:int": "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:bool": "true or false",
}


def _decoded(content: bytes, source: str) -> str:
    is_utf16 = content[:2] in {b"\xff\xfe", b"\xfe\xff"}
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = f"the byte 0x{content[error.start]:02x} in line {line}"
        raise InputError(
            f"{source}: not in UTF-8: {byte}; perhaps cp1252 (ANSI); save it as UTF-8 in the editor, or leave out letters such as é or ö"
        ) from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise _RefusedError(f"line {line}: nested too deeply; expected at most {MAX_DEPTH} levels")


def _check_aliases(root: _Node) -> None:
    """Check that the document stays within the limits after expansion of all aliases; each node is measured once."""
    measured: dict[int, tuple[int, int]] = {}
    in_progress = set()

    def measure(node: _Node) -> tuple[int, int]:
        """Return the number of values and the number of levels of a node."""
        if id(node) in measured:
            return measured[id(node)]
        if id(node) in in_progress:
            raise _RefusedError(f"{_line(node)}: an alias refers to a value that contains it; write the value out")
        in_progress.add(id(node))
        children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else node.value
        inner = [measure(child) for child in children] if isinstance(node, yaml.CollectionNode) else []
        size = 1 + sum(values for values, _ in inner)
        depth = 1 + max((levels for _, levels in inner), default=0)
        if size > MAX_VALUES or depth > 2 * MAX_DEPTH:
            raise _RefusedError(f"{_line(node)}: expands to more than {MAX_VALUES:,} values or {MAX_DEPTH} levels; use fewer aliases")
        in_progress.remove(id(node))
        measured[id(node)] = size, depth
        return size, depth

    measure(root)


def _explained(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        character = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        return f"the character U+{character:04X} is not allowed; save it as plain text in UTF-8"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or reason(error)
    if mark is None:
        return _shortened(problem, 200)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    advice = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        advice = "; the line starts with a tab, use spaces"
    elif "escape" in problem or "hex" in problem:
        advice = "; in double quotes \\ starts an escape sequence; write the path with /, or in 'single' quotes"
    return f"line {mark.line + 1}: {_shortened(problem, 200)}{advice}; found {_shortened(line.strip())!r}"


def _line(node: _Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}.. ({len(text):,} characters)"
