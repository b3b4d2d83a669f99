"""One frozen Settings object, read once and passed on: configs/base.yaml, the file of --config, the environment, the command line."""

import functools
import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from serving.errors import SettingsError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

MAX_DEFAULT_REPLICAS = 4

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE).fullmatch


def default_replicas() -> int:
    """Return one replica for each core that this process may use, up to MAX_DEFAULT_REPLICAS: each has its own copy of the models."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_REPLICAS)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """Where the server listens and what it accepts."""

    host: str = "127.0.0.1"
    allow_remote_access: bool = False  # whether host may be an address that other machines reach: nobody is authenticated
    port: int = Field(8000, ge=0, le=65535)
    replicas: int = Field(default_factory=default_replicas, ge=1, le=64)  # each answers on one core
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    max_items: int = Field(1000, ge=1)
    max_connections: int = Field(10_000, ge=1)
    max_open_connections: int | None = Field(None, ge=8)  # None: what the process's limit of descriptors leaves
    head_timeout_s: float = Field(10.0, gt=0)  # from a request's first byte, or the connection's beginning, to the end of its head
    body_timeout_s: float = Field(15.0, gt=0)
    idle_timeout_s: float = Field(75.0, gt=0)
    min_gzip_bytes: int = Field(4096, ge=1)  # smaller responses are not compressed
    cors_origins: tuple[str, ...] = ()  # whose pages may call the server from a browser: scheme://host[:port], or * for all
    access_log: bool = False  # one line for each request, in access.log
    default_timeout_ms: int = Field(1000, ge=1)  # of a request without one; a list has so long for every 100 items
    drain_s: float = Field(10.0, gt=0, le=20)
    own_socket: bool = True  # False: only Ray's own HTTP proxy and handles reach the replicas
    ray_http_port: int | None = Field(None, ge=1, le=65535)

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Return the origins as browsers send them."""
        for origin in origins:
            if not _ORIGIN(origin):
                raise ValueError(f"{origin!r} is no origin: write scheme://host or scheme://host:port, without a path, or *")
        return tuple(origin.lower() for origin in origins)


class BatcherSettings(_Section):
    """How many rows may wait, and how many are scored in one call."""

    max_queued: int = Field(4096, ge=1)
    max_batch: int = Field(64, ge=1)


class CacheSettings(_Section):
    """Cached answers, in process and behind that in Redis. `redis_url` None: an embedded Valkey where one can be started."""

    enabled: bool = True
    ttl_s: float = Field(5.0, gt=0)
    max_bytes: int = Field(64 * 1024 * 1024, ge=0)
    shared: Literal["auto", "always", "never"] = "auto"
    redis_url: str | None = None
    redis_timeout_ms: float = Field(5.0, gt=0)


class FeatureSettings(_Section):
    """The feature store, in Redis. `redis_url` None: an embedded Valkey with its data under `home`, where one can be started."""

    redis_url: str | None = None
    timeout_ms: float = Field(50.0, gt=0)
    fresh_s: float = Field(1.0, ge=0)  # for how long a replica uses what it has read: one page sends several requests; 0 reads each time
    keep_days: float = Field(90.0, gt=0)  # after a publication


class DegradeSettings(_Section):
    """What an answer may lack when there is no time for a full one, in the order in which it is left out."""

    enabled: bool = True
    degradations: tuple[Literal["no-explanation", "stale", "base-rate"], ...] = ("no-explanation", "stale", "base-rate")
    max_stale_s: float = Field(300.0, ge=0)  # how long after its time to live a cached answer may still be given
    base_rate_share: float = Field(0.03, ge=0, le=1)  # of a replica's time that base rates may take: it is lost to scores

    def allows(self, degradation: str) -> bool:
        """Return whether answers may have this degradation."""
        return self.enabled and degradation in self.degradations


class ModelSettings(_Section):
    """Where the models are: any fsspec URL. `poll_s`: seconds between two looks for a promotion."""

    registry: str = ".revenue-engine/models"
    alias: str = "champion"
    poll_s: float = Field(0.5, gt=0)
    allow_demo: bool = True  # whether models learned from a simulated shop may answer, as the default ones are


Placement = Literal["replica", "pooled"]


class PoolSettings(_Section):
    """The processes of pooled questions. `low_priority`: they run only on processors that the replicas leave idle."""

    low_priority: bool = True


class Settings(_Section):
    """Everything that can be set. Environment: REVENUE_ENGINE_SERVER__PORT=9000 sets server.port."""

    home: Path = Path(".revenue-engine")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    server: ServerSettings = ServerSettings()
    batcher: BatcherSettings = BatcherSettings()
    cache: CacheSettings = CacheSettings()
    features: FeatureSettings = FeatureSettings()
    degrade: DegradeSettings = DegradeSettings()
    models: ModelSettings = ModelSettings()
    placement: dict[str, Placement] = Field(default_factory=dict)  # by question; by default as its engine declares
    pool: PoolSettings = PoolSettings()


class _Environment(BaseSettings, Settings):
    """The same fields, as environment variables."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="REVENUE_ENGINE_", env_nested_delimiter="__")


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: _merge(under[k], v) if isinstance(v, dict) and isinstance(under.get(k), dict) else v for k, v in over.items() if v != {}}
    return {**under, **both}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"cannot read settings from {path}: it contains a {type(found).__name__}, not names with values")
    return found


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Return the settings: configs/base.yaml, then `config`, then the environment, then `overrides` (the command line)."""
    files = [CONFIGS / "base.yaml", *([config] if config is not None else [])]
    layers = [*map(_read, files), EnvSettingsSource(_Environment)(), overrides]
    try:
        return Settings.model_validate(functools.reduce(_merge, layers))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise SettingsError("settings: " + "; ".join(lines)) from error
