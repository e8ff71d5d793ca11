"""Network files of anybody's: what one holds is looked at before a library opens it.

In: a path. Out: a Keras network, or one sentence that says why the file is not opened.
"""
