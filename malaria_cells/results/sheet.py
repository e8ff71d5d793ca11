"""Sheets of patches: rows with a name each."""

from pathlib import Path

import numpy as np

from malaria_cells.results.style import figure, short


def patch_sheet(rows: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw patches in rows.

    Args:
        rows: by the row's name, uint8 (n, H, W, 3); n may differ and be 0.
        title: above all.
        path: PNG to write.
    """
    columns = max([len(patches) for patches in rows.values()] + [1])
    side = min(1.1, 11 / columns)
    with figure(path, columns * side + 1.9, max(len(rows), 1) * side + 0.5, rows=len(rows), columns=columns, squeeze=False) as axes:
        for line, (name, patches) in zip(axes, rows.items(), strict=True):
            for ax in line:
                ax.axis("off")
            for ax, patch in zip(line, patches, strict=False):
                ax.imshow(patch)
            line[0].text(-0.12, 0.5, short(name), transform=line[0].transAxes, ha="right", va="center", fontsize=10)
        axes[0, 0].figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
