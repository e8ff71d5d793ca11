"""Names in texts of the page, which Streamlit reads as Markdown."""

import re

from malaria_cells.base.file_names import printable


def plain(text: str) -> str:
    r"""A text that is shown as it is: a file's name may look like a link, an image of another server, a formula or a tag.

    >>> plain("a_1.png"), plain("![x](http://a.b/c.png)"), plain("</b>: $x$")
    ('a\\_1.png', '\\!\\[x\\](http\\://a.b/c.png)', '\\</b\\>: \\$x\\$')
    """
    return re.sub(r"([\\`*_{}\[\]<>#+!|~$&]|:(?=\S))", r"\\\1", printable(text))
