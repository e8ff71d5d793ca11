"""Mutations of files: of their bytes, and of the values in JSON, YAML and XML."""

import copy
import json
import random
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

import yaml

MAX_BYTES = 2**21  # bytes of a mutant: what is larger tests the disk
TOKENS = [
    *(b"", b" ", b"\n", b"\r", b"\t", b",", b";", b":", b"-", b".", b"'", b'"', b"<", b">", b"&", b"/", b"..", b"#", b"%", b"\\"),
    *(b"\0", b"\x7f", b"\xff", b"\xe4", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xae"),
    *(b"NaN", b"-Infinity", b"nan", b"inf", b".nan", b"-.inf", b"1e308", b"-1e999", b"1e999", b"1e-320", b"0", b"-0", b"-1", b"0.5"),
    *(b"2147483648", b"-2147483649", b"4294967296", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"0x7fffffff", b"1_0", b"01"),
    *(b"null", b"None", b"true", b"yes", b"[]", b"{}", b"[[", b"{}{", b"]}", b"../../../etc/passwd", b"C:\\x", b"\\\\server\\x"),
    *(b"/dev/zero", b"file:///etc/passwd", b"http://127.0.0.1:1/x.png", b"&a ", b"*a ", b"!!python/object/apply:os.system [x]", b"<<: *a"),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<![CDATA[", b"<!--", b"<?x?>", b"&#0;", b"&b;", b"xmlns='x' ", b"$(x)", b"{0}", b"(?:a+)+$"),
]  # fmt: skip
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "utf-8-sig", "cp1252", "cp037", "shift-jis")
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORD = re.compile(rb"[^\s,;:<>\[\]{}\"'=]+")
WIDE = [0, 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
JUNK: list[Any] = [
    *(None, True, False, -1, 0, 1, 0.5, 2**31, 2**63, 10**30, 10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
    *("", " ", "ring", "12", "-3", "1e999", "nan", "../../x.png", "/etc/passwd", "\ud800", "\0", "a\nb", "ü" * 300 + ".png", "x" * 70_000),
    *([], {}, [1], [[[]]], [None], {"id": 1}, {"a": {"b": []}}, ["a", 1], {"": ""}, [[0, 0, 1, 1]] * 3, list(range(3000))),
]
Mutation = Callable[[bytes, random.Random], bytes]


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    """Start and end of a chunk, mostly a short one."""
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 2, 4, 16, 64, 512, len(content)]))


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def deleted(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def doubled(content: bytes, rng: random.Random) -> bytes:
    start, end = _span(content, rng)
    times = rng.choice([1, 1, 2, 3, 200])
    at = rng.choice([end, end, rng.randrange(len(content) + 1)])
    return content[:at] + content[start:end] * min(times, MAX_BYTES // (end - start + 1)) + content[at:]


def swapped(content: bytes, rng: random.Random) -> bytes:
    (a, b), (c, d) = sorted([_span(content, rng), _span(content, rng)])
    return content if c < b else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def with_token(content: bytes, rng: random.Random) -> bytes:
    """A token inserted, or put in place of a number or a word."""
    token = rng.choice(TOKENS)
    places = [match.span() for match in rng.choice([NUMBER, NUMBER, WORD]).finditer(content[: 2**16])]
    at = rng.randrange(len(content) + 1)
    start, end = rng.choice(places) if places and rng.random() < 0.8 else (at, at)
    return content[:start] + token + content[end:]


def deeply_nested(content: bytes, rng: random.Random) -> bytes:
    opened, closed = rng.choice(
        [(b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"- ", b""), (b"(", b")"), (b"{a: ", b"}"), (b"&a [*a,", b"]")]
    )
    depth, at = rng.choice([20, 70, 500, 5000, 100_000]), rng.randrange(len(content) + 1)
    number = next(iter(NUMBER.finditer(content, at)), None)
    start, end = number.span() if number else (at, at)
    return content[:start] + opened * depth + b"1" + closed * rng.choice([depth, depth, 0]) + content[end:]


def in_another_encoding(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", errors="replace") + rng.choice(["", "ü", "\u2028", "\u0660"])
    encoded = text.encode(rng.choice(ENCODINGS), errors="replace")
    return encoded.replace(b"\n", rng.choice([b"\n", b"\r\n", b"\r"]))


def with_wide_number(content: bytes, rng: random.Random) -> bytes:
    """Four or two bytes overwritten by a number, as the headers of binary files hold them; mostly near the start."""
    if len(content) < 8:
        return content
    changed = bytearray(content)
    at = rng.randrange(min(len(content) - 4, rng.choice([64, 512, len(content)])))
    value, order = rng.choice([*WIDE, len(content), rng.randrange(len(content))]), rng.choice("<>")
    struct.pack_into(*(order + "I", changed, at, value) if rng.random() < 0.7 else (order + "H", changed, at, value % 2**16))
    return bytes(changed)


def emptied(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"", b"\n", b"\0" * len(content), b" " * 1000])


BINARY: list[Mutation] = [truncated, flipped, flipped, deleted, doubled, swapped, with_wide_number, with_wide_number, with_wide_number]
TEXT: list[Mutation] = [truncated, flipped, deleted, doubled, swapped, with_token, with_token, with_token, deeply_nested]


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values are in parsed JSON or YAML; of lists the first and the last ones."""
    if place:
        yield place
    pairs = list(content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ())
    for key, value in pairs if len(pairs) < 12 or isinstance(content, dict) else pairs[:6] + pairs[-2:]:
        yield from places(value, (*place, key))


def _nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


def changed_value(content: Any, rng: random.Random) -> Any:
    """One value lost, of another type, doubled, nested, or moved to the place of another; or one key renamed."""
    content = copy.deepcopy(content)
    known = list(places(content))
    if not known:
        return rng.choice(JUNK)
    *way, last = rng.choice(known)
    outer = content
    for key in way:
        outer = outer[key]
    kind = rng.randrange(8)
    if kind == 0:
        del outer[last]
    elif kind == 1 and isinstance(outer, list):
        outer[last:last] = [copy.deepcopy(outer[last]) for _ in range(rng.choice([1, 2, 300]))]
    elif kind == 2 and isinstance(outer, dict):
        outer[rng.choice(["", "id", "x" * 300, f"{last}s", str(last).upper(), 3, None])] = outer.pop(last)
    elif kind == 3:
        outer[last] = _nested(rng.choice([1, 2, 50, 200]), outer[last])
    elif kind == 4:
        other = content
        for key in rng.choice(known):
            other = other[key]
        outer[last] = copy.deepcopy(other)
    elif kind == 5 and isinstance(outer[last], int | float) and not isinstance(outer[last], bool):
        outer[last] = rng.choice([-outer[last], outer[last] * 1e6, outer[last] + 0.5, str(outer[last]), [outer[last]], 10**18])
    else:
        outer[last] = rng.choice(JUNK)
    return content


def json_changed(content: bytes, rng: random.Random) -> bytes:
    parsed = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        parsed = changed_value(parsed, rng)
    return json.dumps(_with_text_keys(parsed)).encode("utf-8", errors="surrogatepass")


def _with_text_keys(content: Any) -> Any:
    return content if not isinstance(content, dict) else {str(key): value for key, value in content.items()}


def yaml_changed(content: bytes, rng: random.Random) -> bytes:
    parsed = yaml.safe_load(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        parsed = changed_value(parsed, rng)
    return yaml.safe_dump(parsed, allow_unicode=True).encode("utf-8", errors="surrogatepass")


def xml_changed(content: bytes, rng: random.Random) -> bytes:
    """One element lost, doubled, renamed, nested or with another text or attribute."""
    root = ET.fromstring(content)
    elements, parents = list(root.iter()), {child: parent for parent in root.iter() for child in parent}
    element = rng.choice(elements)
    parent, text = parents.get(element), str(rng.choice([*JUNK, "&b;", "<x/>"]))
    kind = rng.randrange(6)
    if kind == 0 and parent is not None:
        parent.remove(element)
    elif kind == 1 and parent is not None:
        parent.extend(copy.deepcopy(element) for _ in range(rng.choice([1, 2, 300])))
    elif kind == 2:
        element.tag = rng.choice(["x", "name", "image", "object", element.tag.upper(), f"{{x}}{element.tag}"])
    elif kind == 3 and parent is not None:
        for _ in range(rng.choice([1, 60, 900])):
            element.append(element := ET.Element(element.tag))
    elif element.attrib and kind == 4:
        element.attrib[rng.choice(list(element.attrib))] = text
    else:
        element.text = text
    return ET.tostring(root, encoding="utf-8", xml_declaration=rng.random() < 0.5).replace(b"\0", b"&#0;")


STRUCTURED: dict[str, Mutation] = {".json": json_changed, ".geojson": json_changed, ".yaml": yaml_changed, ".xml": xml_changed}


def mutated(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """A mutant of a file's content, by the values in it where the suffix names a text with such."""
    is_text = suffix in {*STRUCTURED, ".csv", ".txt", ".names", ".data"}
    drawn = rng.random()
    if drawn < 0.02:
        return emptied(content, rng)
    if is_text and drawn < 0.06:
        return in_another_encoding(content, rng)
    if suffix in STRUCTURED and drawn < 0.55:
        try:
            return STRUCTURED[suffix](content, rng)[:MAX_BYTES]
        except (ValueError, TypeError, ET.ParseError, yaml.YAMLError, RecursionError, OverflowError):
            pass  # not of this kind, or its mutant cannot be written: bytes can be mutated in any case
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        content = rng.choice(TEXT if is_text else BINARY)(content, rng)
    return content[:MAX_BYTES]
