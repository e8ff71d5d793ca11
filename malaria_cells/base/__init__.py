"""General helpers that all other packages use. They know nothing of cells.

In: paths, texts and values from users. Out: atomically written files, messages, parallel maps, a configured TensorFlow.
"""
