"""Words for people."""


def number_of(n: int, what: str) -> str:
    """A count with its noun.

    >>> number_of(1, "picture"), number_of(1200, "cell"), number_of(2, "box")
    ('1 picture', '1,200 cells', '2 boxes')
    """
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("x") else "s")


def rounded(value: float | None, absent: str = "none") -> str:
    """A figure as tables and lines have it.

    >>> rounded(0.98765), rounded(None), rounded(None, "")
    ('0.988', 'none', '')
    """
    return absent if value is None else f"{value:.3f}"
