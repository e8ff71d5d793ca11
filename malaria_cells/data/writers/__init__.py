"""Annotated images written in the formats of other tools: one file a format, each with ``write(annotations, folder)``."""

from malaria_cells.data.writers import coco_json, voc, yolo

WRITERS = {"coco": coco_json.write, "voc": voc.write, "yolo": yolo.write}

__all__ = ["WRITERS"]
