"""``python -m cascade_lab`` is ``cascade-lab``."""

import sys

from cascade_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
