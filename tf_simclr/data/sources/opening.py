"""Opens the data set that a run's settings name."""

from tf_simclr.config import Config, check_data_dir
from tf_simclr.data.sources import folder, image_range
from tf_simclr.data.sources.label_subset import ClassBalancedSubset
from tf_simclr.data.sources.protocol import Source
from tf_simclr.data.sources.tfds_source import open_source
from tf_simclr.errors import ConfigError


def open_data(config: Config, *, quiet: bool = False) -> Source:
    """Opens the data set.

    Prints on stderr what a folder holds, and whether 16-bit images are nearly black.

    Args:
      config: uses the section Data, model_dir and data_service.
      quiet: print nothing (on workers other than the chief).

    Raises:
      ConfigError: the data set cannot be opened, or the settings do not fit it.
    """
    check_data_dir(config)
    data = config.data
    value_range = image_range.parse(data.image_range)
    source: Source
    if data.dataset == folder.FOLDER:
        source = folder.open_folder(
            data.data_dir,
            unlabelled=data.unlabelled,
            image_range=value_range,
            max_megapixels=data.max_megapixels,
            model_dir=config.runtime.model_dir,
            quiet=quiet,
        )
    else:
        source = open_source(
            data.dataset,
            data.data_dir,
            image_range=value_range,
            image_key=data.image_key,
            label_key=data.label_key,
        )
        if config.runtime.data_service and source.reads_in_this_process:
            raise ConfigError(
                f"data_service must be unset with dataset={data.dataset}, got "
                f"{config.runtime.data_service!r}: the process that trains reads the data set's "
                "array_record files itself; unset --data_service, or prepare it as TFRecord files"
            )
    if value_range is None and not quiet:
        image_range.warn_if_dark(source.name, source.sample_16_bit())
    return source


def limit_labels(config: Config, source: Source) -> Source:
    """Limits the training split to label_fraction. Returns the source unchanged for 1."""
    data = config.data
    if data.label_fraction == 1:
        return source
    return ClassBalancedSubset(
        source,
        split=data.train_split,
        fraction=data.label_fraction,
        seed=data.label_seed,
        flag="train_split",
    )
