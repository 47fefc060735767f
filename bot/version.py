"""The version of the code that runs: read at start, since an upgrade takes the package's files away beneath a running
process, which goes on with what it has read.
"""

import importlib.metadata

VERSION = importlib.metadata.version("troop-bot")
