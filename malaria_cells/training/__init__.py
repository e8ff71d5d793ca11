"""From annotated images to a model's folder: detectors of two stages and of one, thresholds, adaptation.

In: a config and a data set in parts. Out: networks, a model's description, figures and what a report is made of.
"""
