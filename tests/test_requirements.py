"""Both stacks are pinned, and the modern one is the same in both files."""

from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "tensorflow",
    "tensorflow-datasets",
    "keras",
    "tensorflow-addons",
    "absl-py",
    "gin-config",
}


def pins(file: str, python: str) -> dict[str, str]:
    """{package: its version specifier} for a Python version."""
    found = {}
    for line in (ROOT / file).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(
                {"python_version": python}
            ):
                assert requirement.name not in found, line
                found[requirement.name] = str(requirement.specifier)
    return found


def test_all_is_pinned_on_every_python():
    for python in ("3.10", "3.11", "3.12", "3.13"):
        found = pins("requirements.txt", python)
        assert PACKAGES - set(found) <= ({"tensorflow-addons"} if python > "3.11" else set())
        assert all(version.startswith("==") for version in found.values()), found


def test_the_reference_stack_is_the_last_on_which_everything_works():
    found = pins("requirements.txt", "3.11")
    assert found["tensorflow"] == "==2.15.1" and found["keras"] == "==2.15.0"
    assert found["tensorflow-addons"] == "==0.23.0"
    assert found["tensorflow-metadata"] < "==1.16"


def test_what_an_old_pip_cannot_find_out_is_pinned_on_python_3_10():
    """Without these pip 23.0 went back through other packages for minutes, to no end."""
    assert {"protobuf", "etils"} <= set(pins("requirements.txt", "3.10"))
    assert not {"protobuf", "etils"} & set(pins("requirements.txt", "3.11"))


def test_the_modern_stack_is_the_same_in_both_files():
    assert pins("requirements-keras3.txt", "3.11") == pins("requirements.txt", "3.12")
