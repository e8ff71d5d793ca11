"""Safe loading of untrusted network files: each file is validated before a library opens it.

In: a path. Out: a Keras network, or an `InputError` with the reason why the file is refused.
"""
