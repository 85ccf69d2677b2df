"""`python -m heretic`."""

import sys

from .cli.main import main

sys.exit(main())
