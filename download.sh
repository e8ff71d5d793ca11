#!/usr/bin/env bash
# Fetches public data sets into data/, or renders the sample:
#   bash download.sh                 BBBC041
#   bash download.sh NAME ...        these
#   bash download.sh --list          what there is
# MALARIA_CELLS_MIRROR=http://HOST:PORT replaces the public hosts.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python="$here/.venv/bin/python"
[ -x "$python" ] || python=$(command -v python3 || command -v python || true)
[ -n "$python" ] || { echo "error: found no Python; install Python 3.11 or newer" >&2; exit 2; }
PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m malaria_cells download "$@"
