"""From files that people have to what a network learns from.

In: images, annotations of any format, a config. Out: image arrays, checked annotations in parts, patches, batches, other formats.
"""
