"""Reading of images and annotations, splits, patches, batches and conversion to other formats.

Input: images, annotations in any supported format, a config. Output: image arrays, checked annotations split into parts, patches,
training batches, and annotations in other tools' formats.
"""
