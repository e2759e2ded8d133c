"""Whose class names a run takes, when labels are mapped to them, and what is refused."""

import json

import pytest
import tensorflow as tf

from tf_simclr.checkpoints import about_file, class_names
from tf_simclr.cli import flags
from tf_simclr.data.sources.relabel import RelabeledSource
from tf_simclr.errors import ConfigError

FINETUNE = ("--train_mode=finetune", "--from_scratch")


class FakeSource:
    """A data set of some class names that nobody reads."""

    name, image_shape, label_note = "fake", (None, None, 3), ""

    def __init__(self, *names):
        self.class_names = names or None
        self.num_classes = len(names) or None


def write_run(directory, names, *, classes: int | None = None) -> str:
    """A model_dir: a checkpoint with a head of so many classes, and about.json."""
    classes = len(names) if classes is None else classes
    head = {"dense": {"kernel": tf.Variable(tf.zeros((4, classes)))}}
    parts = {"head_supervised": head} if classes else {"base_model": head}
    checkpoint = tf.train.Checkpoint(model=parts)
    tf.train.CheckpointManager(checkpoint, str(directory), 1, checkpoint_name="ckpt").save(0)
    if names:
        about_file.write_about(str(directory), {"image_size": 32, "class_names": list(names)})
    return str(directory)


def match(source, *arguments, has_head=True):
    config = flags.parse(["run.py", "--seed=1", *arguments]).config
    return class_names.match(config, source, has_head=has_head)


def refused(*arguments) -> str:
    with pytest.raises(ConfigError) as error:
        match(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def trained(tmp_path) -> str:
    return write_run(tmp_path / "trained", ("cat", "dog", "owl"))


def test_a_new_run_has_the_names_of_its_data(tmp_path):
    source = FakeSource("a", "b")
    result = match(source, f"--model_dir={tmp_path}", *FINETUNE)
    assert result == class_names.MatchedSource(source, ("a", "b"))
    # A run without a checkpoint has no weights to which the names would belong.
    about_file.write_about(str(tmp_path), {"class_names": ["x"]})
    assert match(source, f"--model_dir={tmp_path}", *FINETUNE) == result


def test_a_run_without_a_head_has_no_names(trained):
    source = FakeSource("a")
    result = match(source, f"--model_dir={trained}", has_head=False)
    assert result == class_names.MatchedSource(source, None)


@pytest.mark.parametrize("start", ["model_dir", "checkpoint"])
def test_equal_names_need_nothing(trained, tmp_path, start):
    source = FakeSource("cat", "dog", "owl")
    result = match(source, *arguments(start, trained, tmp_path))
    assert result == class_names.MatchedSource(source, ("cat", "dog", "owl"))


@pytest.mark.parametrize("start", ["model_dir", "checkpoint"])
@pytest.mark.parametrize(
    "names, known",
    [
        (("owl", "dog"), "2 of its 3 classes"),
        (("dog", "cat", "owl"), "3 of its 3 classes"),
    ],
)
def test_known_names_are_mapped_and_a_line_says_so(trained, tmp_path, start, names, known):
    result = match(FakeSource(*names), *arguments(start, trained, tmp_path))
    assert isinstance(result.source, RelabeledSource)
    assert result.names == result.source.class_names == ("cat", "dog", "owl")
    assert f"mapped by class name to those of {start} '{trained}'" in result.note
    assert known in result.note and "\n" not in result.note


def arguments(start: str, trained: str, tmp_path) -> tuple[str, ...]:
    if start == "model_dir":
        return (f"--model_dir={trained}", "--mode=eval")
    new = f"--model_dir={tmp_path / 'new'}"
    return (new, f"--checkpoint={trained}", "--train_mode=finetune")


def test_unknown_names_are_refused_with_the_way_out(trained, tmp_path):
    source = FakeSource("cat", "0new", "1new", "2new", "3new")
    message = refused(source, f"--model_dir={trained}")
    assert message.startswith("dataset fake has classes that model_dir ")
    assert "'0new', '1new', '2new' and 1 more" in message and "'cat', 'dog', 'owl'" in message
    assert "use another model_dir" in message
    message = refused(source, *arguments("checkpoint", trained, tmp_path))
    assert f"checkpoint {trained!r}" in message and "--zero_init_logits_layer" in message
    # model_dir goes before --checkpoint, as when weights are restored.
    message = refused(source, f"--model_dir={trained}", "--checkpoint=nowhere")
    assert f"model_dir {trained!r}" in message


@pytest.mark.parametrize(
    "way_out",
    [
        "--zero_init_logits_layer",
        "--variable_schema=(?!head_supervised)",
    ],
)
def test_the_names_of_a_head_that_is_left_out_do_not_matter(trained, tmp_path, way_out):
    source = FakeSource("0new", "cat")
    result = match(source, *arguments("checkpoint", trained, tmp_path), way_out)
    assert result == class_names.MatchedSource(source, ("0new", "cat"))
    # They do where the run itself is taken up again.
    assert "0new" in refused(source, f"--model_dir={trained}", way_out)


def test_a_checkpoint_without_a_head_has_no_say(tmp_path):
    pretrained = write_run(tmp_path / "pretrained", (), classes=0)
    source = FakeSource("a", "b")
    result = match(source, *arguments("checkpoint", pretrained, tmp_path))
    assert result == class_names.MatchedSource(source, ("a", "b"))


def test_unknown_names_of_a_head_are_taken_from_the_data_and_a_line_says_so(tmp_path):
    old = write_run(tmp_path / "old", (), classes=2)
    source = FakeSource("a", "b")
    result = match(source, *arguments("checkpoint", old, tmp_path))
    assert (result.source, result.names) == (source, ("a", "b"))
    assert f"The class names of checkpoint {old!r} are not on record" in result.note


def test_names_that_are_not_as_many_as_the_classes_are_refused(tmp_path):
    damaged = write_run(tmp_path / "damaged", ("a", "b"), classes=3)
    message = refused(FakeSource("a", "b"), f"--model_dir={damaged}")
    assert f"{damaged}/about.json" in message and "names 2 classes" in message


def test_the_names_beside_the_best_checkpoint_and_in_a_saved_model_count(trained, tmp_path):
    best = write_run(f"{trained}/best", ("x", "y"))
    message = refused(FakeSource("cat"), *arguments("checkpoint", best, tmp_path))
    assert "it knows 'x', 'y'" in message
    exported = f"{trained}/saved_model/1"
    write_saved_model(exported, ("p", "q"))
    message = refused(FakeSource("cat"), *arguments("checkpoint", exported, tmp_path))
    assert "it knows 'p', 'q'" in message


def write_saved_model(path: str, names):
    module = tf.train.Checkpoint(
        model={"head_supervised": {"dense": {"bias": tf.Variable(tf.zeros(len(names)))}}}
    )
    tf.saved_model.save(module, path)
    tf.io.gfile.makedirs(f"{path}/assets")
    about_file.write_about(f"{path}/assets", {"class_names": list(names)})


DISTILL = ("--train_mode=distill", "--teacher={teacher}", "--model_dir={tmp}/student")


def distill(teacher, tmp_path) -> list[str]:
    return [argument.format(teacher=teacher, tmp=tmp_path) for argument in DISTILL]


def test_a_teacher_gives_its_names_to_the_student(trained, tmp_path):
    write_saved_model(f"{trained}/saved_model/7", ("cat", "dog", "owl"))
    flags_given = distill(trained, tmp_path)
    names = ("cat", "dog", "owl")
    assert match(FakeSource(), *flags_given).names == names
    mapped = match(FakeSource("owl", "cat"), *flags_given, "--distill_label_weight=0.5")
    assert mapped.source.class_names == names and f"teacher {trained!r}" in mapped.note
    other = FakeSource("new", "cat")
    message = refused(other, *flags_given, "--distill_label_weight=0.5")
    assert f"teacher {trained!r} was not trained on: 'new'" in message
    assert "--distill_label_weight=0" in message
    assert match(other, *flags_given) == class_names.MatchedSource(other, names)


def test_a_students_own_head_must_have_the_teachers_classes(trained, tmp_path):
    write_saved_model(f"{trained}/saved_model/7", ("dog", "cat", "owl"))
    flags_given = [*distill(trained, tmp_path), f"--checkpoint={trained}"]
    message = refused(FakeSource("cat", "dog", "owl"), *flags_given)
    assert "has a head for 'cat', 'dog', 'owl'" in message
    assert "--zero_init_logits_layer" in message
    assert match(FakeSource("cat"), *flags_given, "--zero_init_logits_layer").source


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b"\xff\xfe{", "codec"),
        (b"[]", "not a JSON object"),
        (b'{"class_names": "ab"}', "must be a list of strings"),
        (b'{"class_names": ["a", 1]}', "must be a list of strings"),
        (b'{"class_names": []}', "must be a list of strings"),
        (b'{"class_names": ["a", "b", "a"]}', "must differ"),
        (b'{"image_size": "32"}', "image_size must be a positive integer"),
        (b'{"image_size": true}', "image_size must be a positive integer"),
        (b'{"image_size": 0}', "image_size must be a positive integer"),
        (b'{"preparation": 1}', "preparation must be a JSON object"),
        (b'{"preparation": {"image_range": "0,4095"}}', "image_range must be two integers"),
        (b'{"preparation": {"image_range": [0, 4095.0]}}', "image_range must be two integers"),
        (b'{"preparation": {"image_range": [false, 9]}}', "image_range must be two integers"),
        (b'{"preparation": {"image_range": [9, 9]}}', "image_range must be two integers"),
        (b'{"preparation": {"image_range": [0, 65536]}}', "image_range must be two integers"),
    ],
)
def test_a_damaged_about_is_one_line_that_names_the_file(tmp_path, content, reason):
    (tmp_path / "about.json").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        about_file.read_about(str(tmp_path))
    message = str(error.value)
    assert f"{tmp_path}/about.json" in message and reason in message
    assert "\n" not in message and len(message) < 600


def test_about_has_a_largest_size_and_depth(tmp_path):
    for content in (b'"' + b"a" * about_file.MAX_BYTES + b'"', b"[" * 100_000):
        (tmp_path / "about.json").write_bytes(content)
        with pytest.raises(ConfigError, match="about.json.* cannot be used"):
            about_file.read_about(str(tmp_path))


def test_a_folder_in_place_of_about_is_an_error_too(tmp_path):
    (tmp_path / "about.json").mkdir()
    with pytest.raises(ConfigError, match="about.json.* cannot be used"):
        about_file.read_about(str(tmp_path))


@pytest.mark.parametrize(
    "about, expected",
    [
        (None, (None, None, None)),
        ({}, (None, None, None)),
        ({"class_names": None, "image_size": None, "preparation": None}, (None, None, None)),
        ({"class_names": ["a", "b\n"], "image_size": 32, "more": 1}, (32, ("a", "b\n"), None)),
        ({"preparation": {"crop_proportion": "?", "image_range": None}}, (None, None, None)),
        ({"preparation": {"image_range": [5, 4095]}}, (None, None, (5, 4095))),
    ],
)
def test_what_about_does_not_say_is_none(tmp_path, about, expected):
    if about is not None:
        (tmp_path / "about.json").write_text(json.dumps(about))
    assert about_file.read_about(str(tmp_path)) == about_file.About(*expected)
