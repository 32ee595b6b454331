"""The tests; what several of them share is in `tests.support`."""

import os
import sys

# Where bytecode is not to be written, as in many a container, each worker compiled hypothesis and each test module anew
# and each process that a test starts what it imports. It lies beside the modules, as elsewhere: git sees none of it.
# Here, since pytest imports this before any conftest and what that imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
