"""`python -m analysis.phantom OUT [--count N] [--seed S] [--bad] [--truth FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis.phantom import write_phantoms


def main() -> int:
    """Write the phantoms and name what was written; 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="python -m analysis.phantom", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the DICOM files; made if need be")
    parser.add_argument("--count", type=int, default=4, help="how many good series (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal images (default 0)")
    parser.add_argument("--bad", action="store_true", help="add one series of each kind that goes wrong")
    parser.add_argument("--truth", type=Path, help="where the truth goes (default OUT.truth.json)")
    options = parser.parse_args()
    if options.count < 0:
        parser.error("--count must not be negative")
    try:
        written = write_phantoms(
            options.out, options.count, seed=options.seed, bad=options.bad, truth_path=options.truth
        )
    except OSError as error:
        parser.error(f"can't write: {error.strerror}")
    for series in written:
        sys.stdout.write(f"{series.series_id}  {series.kind}: {series.expected}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
