"""How property tests draw their examples, everywhere, and what no test may find."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "forked"))

# No test takes a base that another run has kept; one that asks for such bases names its own folder.
os.environ["AFFECTLOCUS_CACHE"] = ""

# The same examples at every run: a change is judged by what it changed, not by luck. To look for
# new ones: pytest --hypothesis-profile explore.
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
