"""`python -m calotype.cli` is `calotype`, for when the script is not on the path."""

import sys

from calotype.cli import main

sys.exit(main())
