"""Arguments of the commands that show images."""

import argparse
from pathlib import Path

from malaria_cells.app.arguments.shared import Commands, add_annotation, annotation, command
from malaria_cells.app.arguments.values import count


def add_page(commands: Commands) -> None:
    """Add the command `page`."""

    def page(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.page import page

        return page(options.model, options.models, options.review, options.address, options.port)

    parser = command(commands, "page", "Serve the web page: drop images, see cells, correct labels.", page)
    parser.add_argument("--model", type=Path, help="model folder selected at start (default: the shipped pretrained/thin_smear)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of other models to offer (default: %(default)s)")
    parser.add_argument("--review", type=Path, default=Path("results/page-review"), help="folder for corrections (default: %(default)s)")
    parser.add_argument("--address", default="127.0.0.1", help="address to bind; 0.0.0.0 accepts remote connections (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port to bind (default: %(default)s)")


def add_gallery(commands: Commands) -> None:
    """Add the command `gallery`."""

    def gallery(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.gallery import gallery

        return gallery(annotation(options), options.output, options.count, options.model, options.explain)

    parser = command(commands, "gallery", "Write sheets and animations of the cells of each class.", gallery)
    parser.add_argument("source", type=Path, help="annotation file, data set folder, or results of run.py")
    add_annotation(parser)
    parser.add_argument("--output", type=Path, default=Path("results/gallery"), help="folder for the images (default: %(default)s)")
    parser.add_argument("--count", type=count, default=100, help="maximum number of cells of a class (default: %(default)s)")
    parser.add_argument("--explain", action="store_true", help="also draw Grad-CAM maps of a model")
    parser.add_argument("--model", type=Path, help="with --explain: the model folder (default: the shipped pretrained/thin_smear)")


def add_report(commands: Commands) -> None:
    """Add the command `report`."""

    def report(options: argparse.Namespace) -> int:
        from malaria_cells.app.commands.report import ReportRequest, report

        return report(ReportRequest(options.source, options.output, options.model, options.select, options.images))

    parser = command(commands, "report", "Write tables, drawings and report of what run.py --cluster detected.", report)
    parser.add_argument("source", help="folder or address that run.py --cluster wrote")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for the results (default: %(default)s)")
    parser.add_argument("--select", metavar="PATTERN", help="report only the images that match, as in 'slide 7/*' (default: all)")
    parser.add_argument("--images", metavar="FOLDER", help="folder or address of the images (default: where the run found them)")
    parser.add_argument("--model", type=Path, help="the model of the run (default: where the run found it)")
