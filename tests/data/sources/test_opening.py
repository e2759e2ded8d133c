"""Data sets that the settings name."""

import types

import pytest

from tf_simclr.config import Config
from tf_simclr.data.sources import opening
from tf_simclr.errors import ConfigError


def test_array_records_are_not_read_by_a_data_service(monkeypatch):
    source = types.SimpleNamespace(reads_in_this_process=True)
    monkeypatch.setattr(opening, "open_source", lambda *args, **kwargs: source)
    with pytest.raises(ConfigError, match="data_service must be unset with dataset=x.*TFRecord"):
        opening.open_data(Config().replace(dataset="x", data_service="grpc://host:1"))
