"""Cross-validation of configs, and the search for a better one.

In: a config, its data set, and a space of values of its keys. Out: figures of each fold, and the config with the best mean.
"""
