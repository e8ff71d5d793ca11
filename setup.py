"""Packs the shipped model, the ImageNet weights and the configs, which lie beside the package, into the installed package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TAKEN_ALONG = ("config.yaml", "configs", "pretrained/thin_smear", "pretrained/imagenet")


class BuildWithShippedFiles(build_py):
    """Copies them into the package as it is built; an editable installation finds them where they are."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if self.editable_mode:
            return
        for name in TAKEN_ALONG:
            source, target = Path(name), Path(self.build_lib, "malaria_cells", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                # Exports of the shipped model, which `.gitignore` leaves out, lie in subfolders.
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                for file in sorted(path for path in source.iterdir() if path.is_file()):
                    shutil.copyfile(file, target / file.name)
            else:
                shutil.copyfile(source, target)


setup(cmdclass={"build_py": BuildWithShippedFiles})
