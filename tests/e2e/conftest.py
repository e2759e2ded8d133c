"""What the tests of whole runs share."""

import pytest

from tf_simclr.models import resnet


@pytest.fixture(scope="module", autouse=True)
def shallow(request):
    """Makes ResNets of one block a group for runs in this process: the others take long to trace.

    Not for modules that say FULL_DEPTH, because they read what deeper networks have written.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "FULL_DEPTH", False):
            for depth in resnet.BLOCKS_PER_GROUP:
                patch.setitem(resnet.BLOCKS_PER_GROUP, depth, (1, 1, 1, 1))
        yield
