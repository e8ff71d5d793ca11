"""YAML of anybody's is read, or refused in one sentence."""

import contextlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malaria_cells.base.errors import InputError
from malaria_cells.base.yaml_text import load_yaml, parse_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 5000))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_and_line_ends_of_windows_are_read(tmp_path, encoding, line_end):
    path = tmp_path / "c.yaml"
    path.write_bytes(f"a: größe{line_end}b: [1, 2.5, null]{line_end}".encode(encoding))
    assert load_yaml(path) == {"a": "größe", "b": [1, 2.5, None]}


def test_empty_is_none():
    assert parse_yaml("", "c.yaml") is None
    assert parse_yaml("# nothing\n", "c.yaml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"c\.yaml: line \d+: expands to more than 200,000 values"),
        ("a: &a [*a]", "refers to a value that contains it"),
        (CHAIN, r"c\.yaml: line \d+: expands to more"),
        ("[" * 100_000, "line 1: nested too deeply"),
        ("{a: " * 100_000, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("epochs: " + "9" * 5000, r"line 1: 9{60}\.\. \(5,000 characters\) cannot be read as a whole number"),
        ('epochs: !!float "x"', "line 1: x cannot be read as a number"),
        ('epochs: !!int ""', "cannot be read as a whole number"),
        ("name: 2024-02-30", "2024-02-30 cannot be read as a date; write it in quotes"),
        ("a: !!bool maybe", "maybe cannot be read as true or false"),
        ("a: !!timestamp x", "x cannot be read as a date"),
        ("a: !!binary é", "not valid YAML: line 1"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 010", "010 is not a plain number"),
        ("a: 1:30", "1:30 is not a plain number"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' appears twice with different values"),
        ("labels:\n\t- ring", "line 2: .* starts with a tab, use spaces"),
        ('a: "C:\\Users"', "line 1: .* write the path with /"),
        ("a: [1", "not valid YAML: line"),
        ("a: \x00", r"U\+0000 is not allowed"),
        ("{[1]: 2}", "not valid YAML|cannot be read"),
        ("--- a\n--- b", "not valid YAML"),
        ("a: *b", "undefined alias"),
        ("<<: 3", "not valid YAML"),
        (" " * (2**21 + 1), "longer than 2 MiB"),
    ],
)
def test_is_refused_in_one_sentence_at_once(text, message):
    started = time.process_time()  # a busy machine may pause any test for seconds
    with pytest.raises(InputError, match=message) as refused:
        parse_yaml(text, "c.yaml")
    assert time.process_time() - started < 3
    assert str(refused.value).startswith("c.yaml: ")
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


def test_the_byte_of_another_encoding_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes("a: 1\nb: größe".encode("cp1252"))
    with pytest.raises(InputError, match=r"not in UTF-8: the byte 0xf6 in line 2; .*cp1252.* save it as UTF-8"):
        load_yaml(path)


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_yaml(tmp_path / "c.yaml")


def test_the_same_key_with_the_same_value_is_taken():
    assert parse_yaml("a: 1\na: 1", "c.yaml") == {"a": 1}


def test_merged_keys_are_overridden():
    assert parse_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}", "c.yaml")["y"] == {"a": 3, "b": 2}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="ab:-[]{}&*!<>|\"'%@?, \n\t\\1.0e~", max_size=80).map(str.encode)))
def test_nothing_else_gets_out(content):
    with contextlib.suppress(InputError):
        parse_yaml(content, "c.yaml")
