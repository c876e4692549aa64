"""`python -m neurosim`, the same as `neurosim`."""

import sys

from neurosim.cli import main

sys.exit(main())
