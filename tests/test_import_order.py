"""Data flow one way: packages import from those above them alone, and so do the files of each package."""

import ast
import re
from itertools import takewhile
from pathlib import Path

import pytest

# Files and packages of each package, in the order in which they may import from each other; `__init__` hands on what its package has.
ORDER = {
    "": [
        *("base", "config", "data", "models", "fitting", "proposals", "inference", "evaluation", "training"),
        *("results", "cluster", "tuning", "export", "app"),
    ],
    "base": [
        "errors",
        "registry",
        "shipped",
        "parallel",
        "progress",
        "keras_cv_parts",
        "host_process",
        "tensorflow_setup",
        "ray_cluster",
        "text",
        "file_names",
        "files",
        "locks",
        "yaml_text",
    ],
    "config": ["class_names", "values", "sets", "data_keys", "training_keys", "detection_keys", "keys", "reading", "reference"],
    "data": [
        "augment",
        "boxes",
        "images",
        "sample",
        "single_cells",
        "stain",
        "synonyms",
        "labels",
        "annotations",
        "candidates",
        "detections",
        "coco_rows",
        "duplicates",
        "leaks",
        "partial_labels",
        "split_file",
        "splits",
        "corrections",
        "patches",
        "patch_store",
        "seen_before",
        "writers",
        "pipeline",
        "set_reading",
        "data_sets",
        "single_cell_sets",
        "dataset",
        "data_record",
    ],
    "data.annotations": [
        "annotation_set",
        "cleaning",
        "columns",
        "format",
        "matching",
        "outlines",
        "parts",
        "class_names",
        "written_paths",
        "file_index",
        "lookup",
        "grouping",
        "source",
        "declared",
        "locate",
        "located_images",
        "shapes",
        "tables",
        "yolo_classes",
        "yolo_labels",
        "label_studio_names",
        "table_rows",
        "readers",
        "foreign",
        "unrecognised",
        "recognition",
        "loading",
    ],
    "data.annotations.readers": [
        "bbbc041",
        "class_folders",
        "coco_json",
        "iml",
        "voc",
        "createml",
        "cvat_xml",
        "labelme",
        "qupath",
        "via",
        "vott",
        "yolo",
        "csv_table",
        "label_studio",
    ],
    "data.augment": ["registry", "densities", "imgaug_policies", "keras_policies"],
    "data.images": [
        "names",
        "walking",
        "refusal",
        "listing",
        "samples",
        "large",
        "jpeg_2000",
        "scratch",
        "tiff_colours",
        "raster",
        "tiff_samples",
        "tiff",
        "reading",
        "large_raster",
        "large_tiff",
        "slides",
        "opening",
    ],
    "data.sample": ["shapes", "cells", "smear", "rendered_set"],
    "data.writers": ["image_copies", "coco_json", "voc", "yolo"],
    "models": ["last_activation", "layers", "one_stage_networks", "weights", "architectures", "stored"],
    "models.architectures": ["backbones", "compact", "lite", "plain", "vgg"],
    "models.stored": ["architecture", "hdf5", "network_limits", "presence", "saved_model", "checksums", "keras2", "keras_files"],
    "fitting": [
        "first_step",
        "fused_normalization",
        "devices",
        "metrics",
        "normalization",
        "partial_loss",
        "run_folders",
        "training_time",
        "run_state",
        "callbacks",
        "claim",
        "fit",
        "recipe",
    ],
    "proposals": ["methods", "sliding", "tiles", "transmission", "outlines", "watershed", "learned"],
    "proposals.learned": [
        "settings",
        "centre_network",
        "screening_network",
        "prediction",
        "remembered_trials",
        "scale_trial",
        "scale",
        "annotated_sizes",
        "targets",
        "habits",
        "training_images",
        "training",
        "screening_training",
    ],
    "inference": [
        "calibration",
        "error_rates",
        "screening",
        "counting",
        "familiarity",
        "suppression",
        "tta",
        "classifier",
        "unfamiliar",
        "decision",
        "detector",
        "regions",
        "two_stage_detector",
        "engines",
        "former_names",
        "model_description",
        "model_yaml",
        "one_stage_detector",
        "assembly",
        "engine_times",
        "engine_choice",
        "answers",
        "model_folder",
        "explain",
    ],
    "inference.engines": ["conversion", "onnx_graph", "onnx", "openvino", "litert", "savedmodel"],
    "inference.familiarity": ["signals", "fields", "words", "model"],
    "evaluation": [
        "unscored",
        "average_precision",
        "error_analysis",
        "matches",
        "classification_metrics",
        "detection_metrics",
        "by_data_set",
    ],
    "training": [
        "budget",
        "errors_elsewhere",
        "few_images",
        "classifier_data",
        "fit_classifier",
        "fit_one_stage",
        "records",
        "start_model",
        "thresholds",
        "training_result",
        "adaptation_result",
        "cascade",
        "fit_familiarity",
        "fit_refinement",
        "fit_screening",
        "class_transfer",
        "transfer",
        "exchangeable",
        "adaptation",
        "adapt_model",
        "one_stage",
        "two_stage_data",
        "two_stage",
        "train_model",
    ],
    "results": [
        "columns",
        "document",
        "held_results",
        "run_results",
        "journal_lines",
        "run_journal",
        "scored_by",
        "style",
        "verdicts",
        "cell_gallery",
        "charts",
        "overlay",
        "large_overlay",
        "plots",
        "png",
        "review",
        "sheet",
        "compare",
        "data_set_summary",
        "output_folder",
        "tables",
        "classification_output",
        "run_outputs",
        "sections",
        "run_report",
        "training_report",
    ],
    "cluster": ["places", "images", "rows", "output", "tries", "worker", "pipeline"],
    "tuning": ["fold_figures", "folds", "space", "trials", "search", "outcome"],
    "export": ["by_package", "example", "formats", "standalone"],
    "export.standalone": ["images", "stain", "model", "proposals", "classification", "decision", "program"],
    "app": ["api", "commands", "library", "page", "arguments", "cli"],
    "app.arguments": ["values", "shared", "data", "detection", "models", "views"],
    "app.commands": [
        "adapt_data",
        "crossvalidate",
        "download_archives",
        "download_fetch",
        "download_unpack",
        "download",
        "explore",
        "export",
        "page",
        "run_request",
        "sample",
        "train",
        "adapt",
        "bare_model",
        "convert",
        "crossvalidate_sets",
        "gallery",
        "run_truth",
        "run_model",
        "run_resume",
        "run_images",
        "run",
        "run_cluster",
        "report",
        "tune",
    ],
    "app.page": ["markdown", "uploads", "view", "downloads", "review_file", "adapting", "panels", "app"],
}
HEAVY = {"tensorflow", "keras", "keras_cv"}
MAY_IMPORT_TENSORFLOW = (
    "data.pipeline",
    "models",
    "fitting",
    "training",
    "proposals.learned.centre_network",
    "proposals.learned.targets",
    "proposals.learned.training",
    "proposals.learned.screening_network",
    "proposals.learned.screening_training",
)


def modules(repository: Path) -> dict[str, Path]:
    """Files by dotted name below the package."""
    package = repository / "malaria_cells"
    named = {".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path for path in package.rglob("*.py")}
    return {name: path for name, path in named.items() if not name.startswith("__")}


# The package whose files import each other by relative names, since they are copied into folders without the rest.
COPIED = "malaria_cells.export.standalone"


def imports(path: Path, only_top: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if only_top else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 1 and path.parent.parts[-3:] == tuple(COPIED.split(".")):
            found.add(f"{COPIED}.{node.module}")
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{path}: relative import")
    return found


def allows(importing: str, imported: str) -> bool:
    """Whether the first of two dotted names may import from the second, where they part."""
    a, b = importing.split("."), imported.split(".")
    common = [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]
    if len(common) in (len(a), len(b)):
        return True  # a package and what lies in it
    order = ORDER[".".join(common)]
    return b[len(common)] not in order or order.index(b[len(common)]) < order.index(a[len(common)])


def test_every_file_has_its_place(repository):
    placed = {f"{package}.{name}".lstrip(".") for package, names in ORDER.items() for name in names}
    assert set(modules(repository)) == placed


def test_imports_point_upwards(repository):
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules(repository).items()
        for imported in imports(path)
        if imported.startswith("malaria_cells.") and not allows(name, imported.removeprefix("malaria_cells."))
    ]
    assert not wrong


def test_a_wrong_direction_is_noticed():
    assert allows("results.plots", "training.training_result.LearningCurve")
    assert not allows("training.training_result", "results.plots.training_curves")
    assert not allows("data.labels", "data.annotations.loading.load_annotations")
    assert not allows("data.annotations.columns", "data.annotations.loading.load_annotations")


def test_tensorflow_is_not_imported_early(repository):
    wrong = [
        f"{name}: {imported}"
        for name, path in modules(repository).items()
        if not name.startswith(MAY_IMPORT_TENSORFLOW)
        for imported in imports(path, only_top=True)
        if imported.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_packages_say_what_goes_in_and_what_comes_out(repository):
    for package in ORDER[""]:
        said = ast.get_docstring(ast.parse((repository / "malaria_cells" / package / "__init__.py").read_text(encoding="utf-8")))
        assert said is not None, package
        assert re.search(r"\bIn(put)?: ", said), package
        assert re.search(r"\bOut(put)?: ", said), package
