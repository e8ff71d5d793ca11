"""Writes results: tables, reports, plots, overlays, galleries, review sheets.

In: detections, metrics, a training's result. Out: files in an output folder or a model folder.
"""
