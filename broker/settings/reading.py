"""Reading the file and the environment into `Settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from broker.settings.source import PREFIX, Source, check_variables
from broker.settings.values import Settings


class _WithEnvironment(Settings, BaseSettings):
    """What the environment says, over what is given."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence; the two in the middle are empty."""
        return env_settings, dotenv_settings, file_secret_settings, init_settings

    def __init__(self, source: Source, **values: Any) -> None:
        super().__init__(**values)
        self._source = source


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        path: the file; else `$BROKER_CONFIG`, else `broker.toml` here if there is one, else the environment only.

    Raises:
        SettingsError: something is wrong; one sentence that names file, line and key, or the variable.
    """
    source = Source.find(path)
    check_variables()  # a section without keys is refused there, and it is all that pydantic-settings cannot parse
    try:
        return _WithEnvironment(source, **source.values())
    except ValidationError as error:
        raise source.mistake(error) from None  # pydantic's own message repeats values, and some are secret
