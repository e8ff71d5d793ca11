"""Words for people."""


def number_of(n: int, what: str) -> str:
    """A count with its noun.

    >>> number_of(1, "image"), number_of(1200, "cell"), number_of(2, "box")
    ('1 image', '1,200 cells', '2 boxes')
    """
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("x") else "s")


def rounded(value: float | None, absent: str = "none") -> str:
    """A figure as tables and lines have it.

    >>> rounded(0.98765), rounded(None), rounded(None, "")
    ('0.988', 'none', '')
    """
    return absent if value is None else f"{value:.3f}"


def shortened(text: str, most: int = 100) -> str:
    """A text, with its middle left out where it is longer than `most` characters.

    Examples:
        >>> shortened("a" * 50 + "z.jpg", 20)
        'aaaaaaaa ... az.jpg'
    """
    return text if len(text) <= most else f"{text[: most // 2 - 2]} ... {text[-(most // 2 - 4) :]}"


def excerpt(value: object, most: int = 80) -> str:
    """What a value looks like, cut to a length that fits into a message, on one line and printable everywhere.

    Args:
        value: anything; a text is shown in quotes.
        most: characters.

    Examples:
        >>> excerpt("a" * 100, 12), excerpt(["ring", 1])
        ("'aaaaaaaa...", "['ring', 1]")
    """
    shown = repr(value[: 4 * most] if isinstance(value, str | list | tuple) else value)
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= most else shown[: most - 3] + "..."
