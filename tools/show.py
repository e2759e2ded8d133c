"""Draws pictures of data, runs and features: `tf-simclr show` in a checkout.

python tools/show.py run runs/demo
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tf_simclr.cli.show.main import main  # noqa: E402

if __name__ == "__main__":
    main(sys.argv[1:], program="show.py")
