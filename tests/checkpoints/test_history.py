"""history.json: the starts and ends of a run."""

import itertools
import json

import pytest

from tf_simclr.checkpoints import history
from tf_simclr.errors import ConfigError


def start(directory, step=0):
    history.add_start(
        str(directory), step=step, total_steps=800, num_train=5_000, device="1 GPU, H100"
    )


def test_starts_and_ends_are_kept_in_order(tmp_path):
    assert history.read(str(tmp_path)) == []
    start(tmp_path)
    history.end(str(tmp_path), history.STOPPED, step=300, message="SIGTERM:\nstopped")
    start(tmp_path, 300)
    first, second = history.read(str(tmp_path))
    assert (first.step, first.num_train, first.total_steps) == (0, 5_000, 800)
    assert first.end is not None and first.end.message == "SIGTERM: stopped"
    assert (first.end.reason, first.end.step) == ("stopped", 300)
    assert second.step == 300 and second.end is None and second.time >= first.end.time
    assert set(second.versions) == {"tf_simclr", "tensorflow", "keras", "Python"}


def test_results_keep_finite_numbers_only(tmp_path):
    start(tmp_path)
    results = {"a": 0.5, "path": "x", "n": 3, "nan": float("nan"), "pair": (1, 2), "flag": True}
    history.end(str(tmp_path), history.FINISHED, step=800, results=results)
    (only,) = history.read(str(tmp_path))
    assert only.end is not None and only.end.results == {"a": 0.5, "n": 3.0}


def test_the_file_does_not_grow_without_bound(tmp_path):
    for step in range(history.MAX_STARTS + 3):
        start(tmp_path, step)
    starts = history.read(str(tmp_path))
    assert [s.step for s in starts] == list(range(3, history.MAX_STARTS + 3))


def test_an_end_without_a_start_writes_nothing(tmp_path):
    history.end(str(tmp_path), history.FINISHED, step=1)
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "step": 0,
    "total_steps": 8,
    "num_train": 9,
    "device": "1 CPU",
    "time": 1.0,
    "versions": {"keras": "3"},
}
END = {"reason": "finished", "step": 8, "time": 2.0, "message": "", "results": {}}


def write(directory, content):
    (directory / history.HISTORY).write_text(content)


def document(*starts):
    return {"format": "tf_simclr history", "version": 1, "starts": list(starts)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 10_000,
        '{"starts": [NaN]}',
        json.dumps({"format": "another", "version": 1, "starts": []}),
        json.dumps(document() | {"version": 2}),
        json.dumps(document() | {"starts": {}}),
        json.dumps(document(3)),
        json.dumps(document(GOOD | {"step": "1"})),
        json.dumps(document(GOOD | {"step": True})),
        json.dumps(document(GOOD | {"total_steps": -1})),
        json.dumps(document(GOOD)).replace("8", "8" * 4000),
        json.dumps(document(GOOD)).replace("1.0", "1e999"),
        json.dumps(document(GOOD | {"end": END | {"results": {"a": 10**999}}})),
        json.dumps(document(GOOD | {"versions": {"keras": 3}})),
        json.dumps(document(GOOD | {"end": 3})),
        json.dumps(document(GOOD | {"end": END | {"reason": "bored"}})),
        json.dumps(document(GOOD | {"end": END | {"results": {"a": "b"}}})),
    ],
    ids=itertools.count(),
)
def test_a_damaged_file_is_an_error_in_one_line_and_the_next_start_replaces_it(tmp_path, content):
    write(tmp_path, content)
    with pytest.raises(ConfigError, match="history.json") as error:
        history.read(str(tmp_path))
    assert "\n" not in str(error.value)
    start(tmp_path)
    assert len(history.read(str(tmp_path))) == 1


def test_unknown_fields_are_ignored(tmp_path):
    write(tmp_path, json.dumps(document(GOOD | {"new": 1, "end": END | {"more": 2}})))
    (only,) = history.read(str(tmp_path))
    assert only.end is not None and only.end.reason == "finished"
