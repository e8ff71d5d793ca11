"""Words for people."""


def number_of(n: int, what: str) -> str:
    """A count with its noun.

    >>> number_of(1, "picture"), number_of(1200, "cell")
    ('1 picture', '1,200 cells')
    """
    return f"{n:,} {what}" + ("" if n == 1 else "s")
