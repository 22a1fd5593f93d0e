"""``python -m motionops COMMAND``, the same as ``motionops COMMAND``."""

import sys

from motionops.commands.program import main

sys.exit(main())
