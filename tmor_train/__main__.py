"""``python -m tmor_train``, which is what torchrun starts."""

import sys

from tmor_train.cli import main

sys.exit(main())
