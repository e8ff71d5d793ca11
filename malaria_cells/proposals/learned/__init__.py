"""Learned proposals: a network's heat map of cell centres.

In: images with boxes. Out: the network, its candidates on an image of any size, and how large the cells of that image are.
"""
