"""Fitting of Keras networks: loss, optimizer, callbacks, checkpoints, and the state from which an interrupted run resumes.

In: a Keras network, batches, a config. Out: fitted weights and a history; after a kill, the state of the last complete epoch.
"""
