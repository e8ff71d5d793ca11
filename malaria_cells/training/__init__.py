"""Trains models from annotated images: two-stage and one-stage detectors, thresholds, adaptation.

In: a config and a data set in parts. Out: a model folder with networks, description and metrics, and the result to report.
"""
