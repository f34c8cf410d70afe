"""``python -m posecap``: the ``posecap`` command."""

import sys

from posecap.cli import main

sys.exit(main())
