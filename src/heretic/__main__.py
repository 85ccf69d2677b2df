"""`python -m heretic`."""

import sys

from .cli import main

sys.exit(main())
