"""``python -m malaria_cells``: the command line."""

import sys

from malaria_cells.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
