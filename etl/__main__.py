"""Make sales rows of a shop's own tables: `python -m etl`."""

import sys

from etl.run import main

if __name__ == "__main__":
    sys.exit(main())
