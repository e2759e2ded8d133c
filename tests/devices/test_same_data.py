"""Workers that see different data: what is said. A real cluster: tests/e2e/test_worker_data.py."""

import json

import pytest

from tf_simclr.devices import same_data, workers
from tf_simclr.errors import ConfigError

NAMES = ["worker 0", "worker 1", "worker 2"]
CHIEF = {"train": 120, "train/cat": 60, "train/dog": 60}


@pytest.mark.parametrize(
    "other, message",
    [
        (
            CHIEF | {"train": 118, "train/dog": 58},
            "train: 118 on worker 2, 120 on worker 0; train/dog: 58 on worker 2, 60 on worker 0",
        ),
        (
            {"train": 60, "train/cat": 60},
            "train: 60 on worker 2, 120 on worker 0; train/dog: 0 on worker 2, 60 on worker 0",
        ),
        (
            CHIEF | {f"train/{i}": 1 for i in range(5)},
            "train/0: 1 on worker 2, 0 on worker 0; train/1: 1 on worker 2, 0 on worker 0; "
            "train/2: 1 on worker 2, 0 on worker 0 and 2 more",
        ),
        (
            CHIEF,
            "the numbers of examples agree, but names or contents differ on worker 2 and worker 0",
        ),
    ],
)
def test_the_first_difference_is_named(other, message):
    result = same_data._difference(NAMES, [(7, CHIEF), (7, CHIEF), (8, other)])
    assert result == message


class Data:
    """A data set of so many classes."""

    name, splits = "many", {"train": None}

    def __init__(self, count: int):
        self.count = count

    def fingerprint(self) -> int:
        return self.count

    def contents(self) -> dict[str, int]:
        return {"train": self.count} | {f"train/{i}": 1 for i in range(self.count)}


def test_many_classes_are_not_sent(monkeypatch):
    sent = []

    def gather(strategy, text):
        sent.append(text)
        return [json.dumps([7, {"train": 1}]), text, text]

    monkeypatch.setattr(workers, "all_same", lambda strategy, number: False)
    monkeypatch.setattr(workers, "names", lambda strategy: NAMES)
    monkeypatch.setattr(workers, "gather_texts", gather)
    for count in (10, 100_000):
        message = f"train: {count} on worker 1, 1 on worker 0"
        with pytest.raises(ConfigError, match=message) as error:
            same_data._require_same(None, Data(count))
        assert len(str(error.value)) < 400 and "\n" not in str(error.value)
    assert "train/9" in sent[0] and len(sent[1]) < 100


def test_one_worker_just_opens(replicas):
    for strategy in (None, replicas(2)):
        assert same_data.open_on_all(strategy, lambda quiet: ("opened", quiet)) == ("opened", False)
    assert workers.gather_texts(replicas(2), "ü\udcff") == ["ü\udcff"]
    assert workers.names(replicas(2)) == ["worker 0"]
