"""Inference: from an image to its cells by proposals, classifiers, calibration and suppression, then counts; and the model folder.

In: a model folder and images. Out: `Detections`, counts with intervals, and the familiarity of each image.
"""
