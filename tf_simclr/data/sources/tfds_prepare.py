"""Finds, downloads and prepares data sets of TensorFlow Datasets (TFDS)."""

import difflib
import pathlib
import shutil
import socket
import urllib.parse
import urllib.request
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from tf_simclr.data.sources import tfds_features
from tf_simclr.errors import ConfigError, one_line

SHAPES = "shapes"


def prepared_builder(dataset: str, data_dir: str | None) -> Any:
    """Returns the TFDS builder of a data set, after preparing the data set if necessary.

    Args:
      dataset: a TFDS name, "name", "name/config" or "name:version", or "shapes".
      data_dir: where TFDS keeps its data sets; None for TFDS's own default.

    Raises:
      ConfigError: the data set is unknown, or cannot be downloaded, prepared or written.
    """
    if dataset != SHAPES:
        return _from_files(dataset, data_dir) or _from_code(dataset, data_dir)
    # Imported only if it is used, because the import registers the builder with TFDS.
    from tf_simclr.data.sources import shapes

    try:
        return shapes.prepare(data_dir)
    except OSError as error:
        raise ConfigError(_cannot_write(dataset, data_dir, error)) from error


def is_prepared(dataset: str, data_dir: str | None = None) -> bool:
    """Returns whether open_source needs no download: the data set is on disk or is drawn."""
    return dataset == SHAPES or _from_files(dataset, data_dir) is not None


def _from_files(dataset: str, data_dir: str | None) -> Any | None:
    """Returns a read-only builder of the data set on disk, or None."""
    try:
        name, kwargs = naming.parse_builder_name_kwargs(dataset)
        if name.namespace or set(kwargs) - {"config", "version"}:
            return None
        with tfds_features.allow_only_tfds_features(dataset):
            builder = tfds.core.read_only_builder.builder_from_files(
                str(name), data_dir=data_dir, **kwargs
            )
    except ConfigError:
        raise
    except (tfds.core.DatasetNotFoundError, ValueError):
        return None
    return builder


def _from_code(dataset: str, data_dir: str | None) -> Any:
    """Returns the builder from TFDS's registered code, downloaded and prepared."""
    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(_unknown_name(dataset)) from error
    except ImportError as error:
        raise ConfigError(_missing_package(dataset, error)) from error
    except OSError as error:
        raise ConfigError(_cannot_write(dataset, data_dir, error)) from error
    except Exception as error:  # TFDS has no common class for a bad config or version
        raise ConfigError(f"--dataset={dataset} cannot be opened: {one_line(error)}") from error
    if not builder.is_prepared():
        _prepare(dataset, builder)
    return builder


def _prepare(dataset: str, builder: Any) -> None:
    """Downloads and prepares a data set; if that fails, removes the folders that it has created."""
    root = pathlib.Path(builder.data_dir_root)
    downloads = root / "downloads"
    created = [path for path in (root, root / builder.name) if not path.exists()]
    try:
        _check_manual(dataset, builder, downloads / "manual")
        _check_network(dataset, builder, downloads)
        builder.download_and_prepare()
    except BaseException as error:
        for path in reversed(created):
            # Complete archives are kept. They may have taken hours, and the next attempt uses them.
            if path != root or not any(file.is_file() for file in downloads.rglob("*")):
                shutil.rmtree(path, ignore_errors=True)
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        if isinstance(error, ImportError):
            raise ConfigError(_missing_package(dataset, error)) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            raise ConfigError(_cannot_write(dataset, str(root), error)) from error
        raise ConfigError(
            f"--dataset={dataset} could not be downloaded and prepared in --data_dir={root} "
            f"({one_line(error)}): prepare it on a machine with network access and point "
            f"--data_dir at it, or use --dataset={SHAPES}"
        ) from error


def _check_manual(dataset: str, builder: Any, folder: pathlib.Path) -> None:
    """Raises ConfigError if archives must be downloaded by hand and are missing."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not any(folder.glob("*")):
        raise ConfigError(
            f"--dataset={dataset} is not in --data_dir={folder.parents[1]} and must be downloaded "
            f"by hand: put its archives into {folder} (see "
            f"https://www.tensorflow.org/datasets/catalog/{builder.name}), or point --data_dir at "
            "a folder where it is prepared"
        )


def _check_network(dataset: str, builder: Any, downloads: pathlib.Path) -> None:
    """Raises ConfigError at once if TFDS would retry each address for minutes."""
    if urllib.request.getproxies() or any(downloads.glob("*")):
        return  # A proxy resolves names itself. Downloaded archives need no network.
    hosts = {urllib.parse.urlparse(url).hostname for url in builder.url_infos or ()}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            raise ConfigError(
                f"--dataset={dataset} is not in --data_dir={downloads.parent} and cannot be "
                f"downloaded, {host} cannot be reached: point --data_dir at a folder where it is "
                f"prepared, or use --dataset={SHAPES}"
            ) from error


def _unknown_name(dataset: str) -> str:
    name = dataset.split("/")[0].split(":")[0]
    known = [SHAPES, *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(name, known, n=3) or [SHAPES, "cifar10", "imagenet2012"]
    return (
        f"--dataset={dataset} is neither a TFDS data set nor in --data_dir: try {', '.join(near)}"
    )


def _missing_package(dataset: str, error: ImportError) -> str:
    package = error.name or one_line(error)
    return f"--dataset={dataset} needs a package that is missing: pip install {package}"


def _cannot_write(dataset: str, data_dir: str | None, error: OSError) -> str:
    return (
        f"--dataset={dataset} cannot be prepared in --data_dir={data_dir} ({one_line(error)}): "
        "give a --data_dir that can be written to"
    )
