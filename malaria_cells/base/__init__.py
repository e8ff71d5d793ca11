"""What every other package stands on and that knows nothing of cells.

In: paths, texts and values as people give them. Out: whole files or none, messages, images in parallel, TensorFlow started.
"""
