"""What people are given: tables, reports, plots, overlays, galleries, review sheets.

In: detections, figures, a training's result. Out: files in a folder of results or of a model.
"""
