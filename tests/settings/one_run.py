"""run.py in a process of its own, with one block a group: deeper networks take minutes to trace.

    python one_run.py cpu|accelerator [run.py's flags]

With "accelerator" the settings that ask for the device take the CPU for one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tf_simclr.cli import main  # noqa: E402
from tf_simclr.devices import strategies  # noqa: E402
from tf_simclr.models import resnet  # noqa: E402

if sys.argv.pop(1) == "accelerator":
    strategies.on_cpu = lambda strategy: False
for depth in resnet.BLOCKS_PER_GROUP:
    resnet.BLOCKS_PER_GROUP[depth] = (1, 1, 1, 1)
main.main()
