"""Escaping for Streamlit, which reads texts as Markdown."""

import re

from malaria_cells.base.file_names import printable


def plain(text: str) -> str:
    r"""Escape a text so that Markdown shows it unchanged. A file name may look like a link, a remote image, a formula or a tag.

    >>> plain("a_1.png"), plain("![x](http://a.b/c.png)"), plain("</b>: $x$")
    ('a\\_1.png', '\\!\\[x\\](http\\://a.b/c.png)', '\\</b\\>: \\$x\\$')
    """
    return re.sub(r"([\\`*_{}\[\]<>#+!|~$&]|:(?=\S))", r"\\\1", printable(text))
