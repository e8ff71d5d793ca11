"""From an image to its cells: proposals, classifiers, calibration, suppression, counts; and a model's folder.

In: a model folder and images. Out: `supervision.Detections`, counts with intervals, how familiar an image is.
"""
