"""Draws sheets of patches in named rows."""

from pathlib import Path

import numpy as np

from malaria_cells.results.style import figure, short


def patch_sheet(rows: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw patches in rows.

    Args:
        rows: patches by name of the row, uint8 (n, H, W, 3); n may differ between rows and be 0.
        title: title of the sheet.
        path: PNG to write.
    """
    columns = max([len(patches) for patches in rows.values()] + [1])
    side = min(1.1, 11 / columns)
    with figure(path, columns * side + 1.9, max(len(rows), 1) * side + 0.5, rows=len(rows), columns=columns, squeeze=False) as axes:
        for row_axes, (name, patches) in zip(axes, rows.items(), strict=True):
            for ax in row_axes:
                ax.axis("off")
            for ax, patch in zip(row_axes, patches, strict=False):
                ax.imshow(patch)
            row_axes[0].text(-0.12, 0.5, short(name), transform=row_axes[0].transAxes, ha="right", va="center", fontsize=10)
        axes[0, 0].figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
