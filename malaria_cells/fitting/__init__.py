"""How any network of ours is fitted: recipe, losses, epochs, checkpoints, and what a run that was cut off goes on from.

In: a Keras network, batches, a config. Out: fitted weights and a history; after a kill, the state of the last whole epoch.
"""
