"""Recognises files of tools whose formats are not supported, and says what to export instead."""

from typing import Any

from malaria_cells.base.errors import InputError
from malaria_cells.data.annotations.readers import csv_table
from malaria_cells.data.annotations.source import Source

_SUPPORTED = "COCO, Pascal VOC or YOLO"
# File extensions of unsupported formats: what the file is, and what to do.
_BY_SUFFIX = {
    ".xlsx": ("is a workbook of Excel", "save the sheet as CSV UTF-8 (File > Save As)"),
    ".xls": ("is a workbook of Excel", "save the sheet as CSV UTF-8 (File > Save As)"),
    ".ods": ("is a spreadsheet of LibreOffice", "save the sheet as CSV with the encoding UTF-8"),
    ".tfrecord": ("is a TFRecord of TensorFlow", f"export {_SUPPORTED} from the tool that wrote it (Roboflow and CVAT can)"),
    ".record": ("is a TFRecord of TensorFlow", f"export {_SUPPORTED} from the tool that wrote it (Roboflow and CVAT can)"),
    ".mat": ("is a file of MATLAB", "write a table of it (writetable) with the columns filename, label, xmin, ymin, xmax, ymax"),
    ".roi": (
        "is a region of ImageJ",
        "write a table with the columns filename, label, x, y, width, height (Measure with Bounding rectangle)",
    ),
    ".ndpa": ("is an annotation of Hamamatsu's NDP.view", "open the slide in QuPath and export its objects as GeoJSON"),
    ".qpdata": ("is a file of QuPath", "export its objects as GeoJSON (File > Export objects as GeoJSON)"),
    ".qpproj": ("is a project of QuPath", "export each image's objects as GeoJSON (File > Export objects as GeoJSON)"),
    ".lif": ("is a file of Leica's microscopes", "export its images as TIFF"),
    ".czi": ("is a file of Zeiss' microscopes", "export its images as TIFF"),
    ".ilp": ("is a project of ilastik", "export its objects as a table with the columns filename, label, xmin, ymin, xmax, ymax"),
    ".parquet": ("is a table in Parquet's format", "write it as CSV, for instance with pandas' to_csv"),
    ".feather": ("is a table in Feather's format", "write it as CSV, for instance with pandas' to_csv"),
    ".pkl": ("is a pickle of Python, which may run any code and is never opened", "write it as CSV or COCO"),
    ".ndjson": ("holds a JSON object in each line, as Labelbox and Ultralytics write it", f"export {_SUPPORTED} instead"),
    ".jsonl": ("holds a JSON object in each line", f"export {_SUPPORTED} instead"),
    ".manifest": ("is a manifest of SageMaker Ground Truth", f"convert it to {_SUPPORTED}"),
    ".vott": ("is a project of VoTT, without its boxes", "name the folder of its `*-asset.json` files, or export VoTT JSON"),
    ".zip": ("is an archive", "unpack it and name its folder; of ImageJ's RoiSet.zip write a table of bounding rectangles instead"),
}


def name_of_tool(source: Source) -> tuple[str, str] | None:
    """What a file that no reader recognises is, and what to export instead, as the two halves of a sentence.

    Args:
        source: a file, whatever it holds; no exception is raised.

    Returns:
        For instance ``("was written by Supervisely", "export COCO from it")``; None if the file is unknown.
    """
    suffix = source.path.suffix.lower()
    try:
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
        if suffix in {".csv", ".tsv", ".txt"}:
            return csv_table.why_not(source) if suffix != ".txt" else None
        return _of_json(source.json) or _of_xml(source)
    except InputError:  # the file is damaged, which the readers report
        return None


def _of_json(content: Any) -> tuple[str, str] | None:
    entry = content[0] if isinstance(content, list) and content else content
    if not isinstance(entry, dict):
        return None
    for keys, (tool, instead) in _BY_KEYS.items():
        if set(keys) <= entry.keys():
            return f"was written by {tool}", instead
    if {"image_id", "category_id", "bbox"} <= entry.keys():
        return "holds COCO results, which name neither images nor classes", "name the annotation that the results belong to"
    if isinstance(content, dict) and {"images", "annotations"} & content.keys():
        return (
            "is COCO without all of its three lists (images, annotations, categories)",
            "export it again, with annotations and categories",
        )
    return None


# JSON keys of the file, or of the first entry of its list: the tool that writes them, and what to do.
_BY_KEYS: dict[tuple[str, ...], tuple[str, str]] = {
    ("project", "config", "attribute", "file", "view"): ("VIA 3", "annotate in VIA 2, whose project is read, or export COCO"),
    ("objects", "size", "tags"): ("Supervisely", "export COCO from it (the app `Export to COCO`)"),
    ("classes", "projectType"): ("Supervisely (its meta.json)", "export COCO from it (the app `Export to COCO`)"),
    ("data_row", "projects"): ("Labelbox", "convert it to COCO (labelbox's Python package has a converter)"),
    ("Labeled Data", "Label"): ("Labelbox", "convert it to COCO (labelbox's Python package has a converter)"),
    ("item", "annotations", "version"): ("V7 Darwin", "export COCO from it"),
    ("dataset", "image", "annotations"): ("V7 Darwin 1", "export COCO from it"),
    ("filename", "itemMetadata"): ("Dataloop", "export COCO or YOLO from it"),
    ("metadata", "annotations", "id", "filename"): ("Dataloop", "export COCO or YOLO from it"),
    ("metadata", "instances"): ("SuperAnnotate", "export COCO from it (`superannotate` converts)"),
    ("categories", "items"): ("Datumaro", "export COCO from CVAT, or convert it with datumaro"),
    ("frames", "name"): ("Scalabel", "export COCO from it"),
    ("external_id", "label"): ("Labelbox", "convert it to COCO (labelbox's Python package has a converter)"),
    ("samples", "info"): ("FiftyOne", "export COCO from it (`dataset.export(dataset_type=fo.types.COCODetectionDataset)`)"),
}


def _of_xml(source: Source) -> tuple[str, str] | None:
    root = source.xml
    if root is None:
        return None
    if root.tag == "Annotations" and root.find("Annotation/Regions") is not None:
        return "was written by Aperio ImageScope", "open the slide in QuPath and export its objects as GeoJSON"
    if root.tag == "ASAP_Annotations":
        return "was written by ASAP", "open the slide in QuPath and export its objects as GeoJSON"
    if root.tag in {"CellCounter_Marker_File", "Cell_Counter_Marker_File"}:
        return "was written by ImageJ's Cell Counter, which marks points without boxes", "draw boxes, in LabelImg or CVAT for instance"
    if root.tag == "OME":
        return "is OME-XML", "write its regions as a table with the columns filename, label, x, y, width, height"
    if root.tag == "dataset" and root.find("images/image") is not None:
        return "was written by dlib's imglab", f"export {_SUPPORTED} instead"
    return None
