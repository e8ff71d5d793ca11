"""Formatting of numbers and values for messages and tables."""


def number_of(n: int, what: str) -> str:
    """Format a count with its noun.

    >>> number_of(1, "image"), number_of(1200, "cell"), number_of(2, "box")
    ('1 image', '1,200 cells', '2 boxes')
    """
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("x") else "s")


def rounded(value: float | None, absent: str = "none") -> str:
    """Format a number with three decimals; None becomes `absent`.

    >>> rounded(0.98765), rounded(None), rounded(None, "")
    ('0.988', 'none', '')
    """
    return absent if value is None else f"{value:.3f}"


def shortened(text: str, max_length: int = 100) -> str:
    """Shorten a text to about `max_length` characters by leaving out its middle.

    Examples:
        >>> shortened("a" * 50 + "z.jpg", 20)
        'aaaaaaaa ... az.jpg'
    """
    return text if len(text) <= max_length else f"{text[: max_length // 2 - 2]} ... {text[-(max_length // 2 - 4) :]}"


def excerpt(value: object, max_length: int = 80) -> str:
    """Format a value for a message: its `repr` on one line, in printable characters, truncated.

    Args:
        value: any value; a text is shown in quotes.
        max_length: maximum number of characters.

    Examples:
        >>> excerpt("a" * 100, 12), excerpt(["ring", 1])
        ("'aaaaaaaa...", "['ring', 1]")
    """
    text = repr(value[: 4 * max_length] if isinstance(value, str | list | tuple) else value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= max_length else text[: max_length - 3] + "..."
