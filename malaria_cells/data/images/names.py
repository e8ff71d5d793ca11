"""Recognises images by the suffix of their file name."""

import importlib.util
from pathlib import Path

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        # TIFF, also with the suffixes of Aperio and Akoya scanners, Zeiss and MetaMorph microscopes, and BigTIFF.
        *(".tif", ".tiff", ".svs", ".qptiff", ".lsm", ".stk", ".btf", ".tf8"),
    }
)

# Slides of scanners that are opened for detection with the extra `slides`, and those of them that are listed in a folder: beside a slide
# of Hamamatsu's VMS are images that are parts of it.
SLIDE_SUFFIXES = frozenset({".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu"})
LISTED_SLIDES = SLIDE_SUFFIXES - {".vms", ".vmu"}

_RAW = "a raw file of a camera"
# Suffixes of image formats that must be exported to another format before they can be read, with the format's name.
UNREADABLE_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC of a telephone"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jxr", ".hdp", ".wdp"), "JPEG XR"),
    **dict.fromkeys(
        (
            ".cr2",
            ".cr3",
            ".crw",
            ".nef",
            ".nrw",
            ".arw",
            ".sr2",
            ".srf",
            ".dng",
            ".orf",
            ".rw2",
            ".raf",
            ".pef",
            ".srw",
            ".x3f",
            ".3fr",
            ".raw",
        ),
        _RAW,
    ),
    ".czi": "CZI of Zeiss",
    ".zvi": "ZVI of Zeiss",
    **dict.fromkeys((".lif", ".lof", ".xlif", ".lei"), "LIF of Leica"),
    ".scn": "SCN of Leica",
    ".nd2": "ND2 of Nikon",
    **dict.fromkeys((".oib", ".oif", ".oir"), "OIB, OIF or OIR of Olympus"),
    **dict.fromkeys((".vsi", ".ets"), "VSI of Olympus"),
    **dict.fromkeys((".ndpi", ".ndpis", ".vms", ".vmu"), "NDPI or VMS of Hamamatsu"),
    ".mrxs": "MRXS of 3DHISTECH",
    ".bif": "BIF of Ventana",
    ".isyntax": "iSyntax of Philips",
    **dict.fromkeys((".kfb", ".sdpc", ".tmap"), "a slide scanner's own format"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    ".ims": "IMS of Imaris",
    **dict.fromkeys((".zarr", ".n5"), "Zarr"),
    **dict.fromkeys((".psd", ".psb"), "PSD of Photoshop"),
    ".xcf": "XCF of GIMP",
    **dict.fromkeys((".eps", ".ps", ".ai"), "PostScript"),
    ".pdf": "PDF",
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pam"), "PPM"),
    ".tga": "TGA",
    ".dib": "DIB",
    **dict.fromkeys((".ico", ".icns"), "an icon"),
    **dict.fromkeys((".fits", ".fit", ".fts"), "FITS"),
    ".mrc": "MRC",
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".wmv"), "a video"),
}


def reads_slides() -> bool:
    """Whether the library that reads `SLIDE_SUFFIXES` is installed."""
    return importlib.util.find_spec("openslide") is not None


def is_image(path: Path) -> bool:
    """Whether a file has the suffix of an image and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
