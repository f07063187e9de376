"""Every setting of the platform, each in one place: its default, its unit, what it bounds.

Read from one YAML file (``SEGMENT_DO_CONFIG``, else ``segment_do.yaml`` in the home directory) and from the
environment, which wins: ``SEGMENT_DO_HOME``, ``SEGMENT_DO_PORT``, ``SEGMENT_DO_JOURNAL__MAX_BYTES`` and so on
(two underscores between section and name). ``docs/settings.md`` has a line for each; a test holds that.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from segment_do.errors import SettingsError
from segment_do.home import Home

__all__ = ["Settings", "load_settings"]

Positive = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IngressSettings(_Section):
    """The HTTP door."""

    replicas: Positive = Field(1, description="Ingress processes on this machine, sharing the port.")
    unknown_key: Literal["refuse", "accept"] = Field(
        "refuse",
        description="Answer to an unknown write key: `refuse` = 401; `accept` = 200 and dropped, as Segment does.",
    )
    max_event_bytes: Positive = Field(32_768, description="Largest event, bytes of JSON.")
    max_body_bytes: Positive = Field(512_000, description="Largest request body, bytes after gzip is undone.")
    max_batch_events: Positive = Field(2_500, description="Most events in one batch.")
    max_connections: Positive = Field(8_192, description="Open connections a replica; more are answered 429.")
    body_timeout_seconds: PositiveSeconds = Field(
        10.0, description="A request's body must have arrived by then, seconds."
    )
    max_inflight_bytes: Positive = Field(
        64 * 2**20, description="Bodies being read or waiting for the disk, bytes; more requests are answered 429."
    )
    trust_forwarded_for: bool = Field(
        False, description="Take the caller's address from X-Forwarded-For (behind your own proxy only)."
    )


class BrowserSettings(_Section):
    """What browsers and phones fetch before they send."""

    public_url: str = Field(
        "", description="Address under which browsers reach the platform; empty = the one that they asked."
    )
    prefix: str = Field(
        "",
        description="A path of your own under which everything for browsers is served as well, e.g. `/news`.",
        pattern=r"^(/[A-Za-z0-9_-]{1,40}){0,3}$",
    )
    script_directory: Path | None = Field(
        None,
        description="Folder with another SDK to serve: its `standalone.js` and chunks, as in `dist/umd` of `@segment/analytics-next`.",
    )
    consent_categories: list[str] = Field(
        [],
        description="Consent categories there are, told to SDKs in their settings; empty = consent is not spoken of.",
    )
    cookie_domain: str = Field(
        "", description="Domain of the anonymous id cookie that the server sets with the script; empty = it sets none."
    )


class DemoSettings(_Section):
    """The page at ``/demo``."""

    enabled: bool = Field(
        False,
        description="Serve the page at `/demo`, on a loopback `host` without `browser.public_url` alone; `segment-do dev` turns it on.",
    )


class TlsSettings(_Section):
    """HTTPS beside the plain port; needed by clients that insist on it (Kotlin, Swift, C#)."""

    certificate: Path | None = Field(
        None, description="PEM file with the certificate and its chain; with it, `tls.port` is opened."
    )
    key: Path | None = Field(None, description="PEM file with the certificate's private key, without a password.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8443, description="Port for HTTPS, on the same address as `port`."
    )


class OAuthSettings(_Section):
    """Access tokens for sources, see docs/oauth.md."""

    token_seconds: Positive = Field(3_600, description="Lifetime of an access token, seconds.")
    assertion_max_seconds: Positive = Field(
        300, description="Longest time between `iat` and `exp` of a client assertion, seconds; clients use 60."
    )
    tokens_per_minute: Positive = Field(
        600, description="Access tokens one app may have in a minute; more requests are answered 429."
    )


class JournalSettings(_Section):
    """Accepted events on disk, until their identity actor has them."""

    segment_bytes: Positive = Field(64 * 2**20, description="Size at which a journal segment is closed, bytes.")
    max_bytes: Positive = Field(
        8 * 2**30, description="Journal not yet applied, bytes; at the bound requests get 429 with Retry-After."
    )
    min_free_disk_bytes: Positive = Field(
        256 * 2**20, description="Free disk below which nothing more is accepted (503), bytes."
    )
    adopt_seconds: PositiveSeconds = Field(
        2.0, description="How often a replica looks for journals left by dead ones, seconds."
    )


class BulkSettings(_Section):
    """The bulk form of the Object API, see docs/objects.md."""

    max_sessions: Positive = Field(20, description="Open syncs of one source; more are answered 429.")
    session_seconds: PositiveSeconds = Field(
        600.0, description="A sync without a call for so long ends and its files are removed, seconds."
    )
    max_file_bytes: Positive = Field(512 * 2**20, description="Largest upload, bytes as sent (gzip).")
    max_unpacked_bytes: Positive = Field(8 * 2**30, description="Largest upload, bytes after gzip is undone.")
    max_uploads: Positive = Field(8, description="Uploads at a time on one replica; more are answered 429.")
    upload_timeout_seconds: PositiveSeconds = Field(
        3_600.0,
        description="An upload must have arrived by then, seconds; 64 KiB of it in each `ingress.body_timeout_seconds`.",
    )
    max_bytes: Positive = Field(
        16 * 2**30,
        description="Uploads of all sources that are not stored yet, bytes; at the bound they are answered 429.",
    )
    ahead_bytes: Positive = Field(
        16 * 2**20,
        description="Journal not yet applied, bytes, above which finished syncs wait so that events go first.",
    )


class LayoutSettings(_Section):
    """How one identity is laid out over several graphs, see docs/shards.md."""

    shards: Annotated[int, Field(ge=1, le=256)] = 1
    granularity: Literal["shard", "profile"] = "shard"


class IdentitySettings(_Section):
    """Identity actors."""

    placement: Literal["dedicated", "pool"] = Field(
        "dedicated",
        description="`dedicated` = one actor (a process) an identity; `pool` = a few actors that each hold many.",
    )
    pool_actors: Positive = Field(2, description="Actors in `pool` placement. Fixed when the first identity is stored.")
    idle_seconds: PositiveSeconds = Field(
        300.0, description="An identity without events for so long leaves memory, seconds."
    )
    max_awake: Positive = Field(
        512,
        description="Identities awake in one actor; for one more the one used longest ago that has nothing to do goes to sleep, else events wait.",
    )
    max_awake_bytes: Positive = Field(
        512 * 2**20,
        description="Memory of the identities awake in one actor, estimated, bytes; above it those used longest ago go to sleep.",
    )
    dedupe_days: Annotated[int, Field(ge=7)] = Field(
        7, description="A messageId counts once within so many days; at least 7."
    )
    outbox_max_bytes: Positive = Field(
        256 * 2**20, description="Outbox the queue has not taken yet, bytes; at the bound the journal waits."
    )
    layouts: dict[str, LayoutSettings] = Field(
        {},
        description="Identities too large for one actor, by name: `{shards: 4}`, or `{granularity: profile}` = an actor for every person. Fixed with an identity's first event.",
    )
    rules_file: Path | None = Field(
        None,
        description="YAML or JSON file with the rules by which ids are joined: one set, or `default` and `identities` by name; empty = Segment's own rules.",
    )
    computations_file: Path | None = Field(
        None,
        description="YAML or JSON file with computed traits and audiences: one list, or `default` and `identities` by name; taken up when an identity wakes.",
    )


class ProfileSettings(_Section):
    """The Profile API, see docs/profile-api.md."""

    requests_per_second: Positive = Field(
        100,
        description="Profile API requests of one space that the platform answers in a second, divided evenly among the replicas; more are answered 429.",
    )


class QueueSettings(_Section):
    """The durable log between identities and destinations."""

    segment_bytes: Positive = Field(64 * 2**20, description="Size at which a log segment is closed, bytes.")
    retain_hours: PositiveSeconds = Field(
        24.0, description="Log kept for replay after every consumer has passed it, hours."
    )
    max_bytes: Positive = Field(
        16 * 2**30,
        description="Log on disk, bytes. At the bound the oldest part that the warehouse has is dropped; where it has not, identities wait.",
    )


class DeliverySettings(_Section):
    """How destinations are tried."""

    concurrency: Positive = Field(16, description="Requests in flight to one destination.")
    timeout_seconds: PositiveSeconds = Field(5.0, description="One attempt, seconds.")
    retry_first_seconds: PositiveSeconds = Field(
        1.0, description="Wait before the second attempt, seconds; doubles, with jitter."
    )
    retry_max_seconds: PositiveSeconds = Field(600.0, description="Longest wait between attempts, seconds.")
    retry_hours: PositiveSeconds = Field(4.0, description="After so long an event becomes a dead letter, hours.")
    max_retrying: Positive = Field(
        100_000, description="Events waiting for another attempt at one destination; at the bound its cursor waits."
    )
    max_dead_letters: Positive = Field(
        100_000, description="Dead letters kept for one destination; the oldest go first."
    )
    allow_private_addresses: bool = Field(
        True, description="Let destinations be on loopback and private networks. Turn off where others may set URLs."
    )


class WarehouseSettings(_Section):
    """Iceberg tables and SQL."""

    commit_seconds: PositiveSeconds = Field(
        10.0, description="Longest time an event waits for its Iceberg commit, seconds; SQL sees it before."
    )
    commit_bytes: Positive = Field(
        64 * 2**20, description="Events waiting for a commit, bytes, at which one is made at once."
    )
    compact_files: Positive = Field(32, description="Small files in a day at which they are rewritten as one.")
    small_file_bytes: Positive = Field(16 * 2**20, description="A file below this is small, bytes.")
    keep_snapshots: Positive = Field(50, description="Snapshots kept; older ones expire.")
    sql_memory_bytes: Positive = Field(1 * 2**30, description="Memory one query may use, bytes.")
    sql_timeout_seconds: PositiveSeconds = Field(30.0, description="Longest a query may run, seconds.")
    sql_max_rows: Positive = Field(
        100_000, description="Rows an answer may hold; more are cut and marked as truncated."
    )


class Settings(BaseSettings):
    """All settings. Frozen: a change takes a restart."""

    model_config = SettingsConfigDict(env_prefix="SEGMENT_DO_", env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Field(Path("~/.segment_do"), description="Data directory.")
    host: str = Field("127.0.0.1", description="Address to listen on. Loopback unless told otherwise.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port to listen on.")
    config: Path | None = Field(
        None, description="The YAML file; default `segment_do.yaml` in the home directory, if there is one."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe lines that are logged."
    )
    ingress: IngressSettings = IngressSettings()
    tls: TlsSettings = TlsSettings()
    browser: BrowserSettings = BrowserSettings()
    demo: DemoSettings = DemoSettings()
    oauth: OAuthSettings = OAuthSettings()
    journal: JournalSettings = JournalSettings()
    bulk: BulkSettings = BulkSettings()
    identity: IdentitySettings = IdentitySettings()
    profiles: ProfileSettings = ProfileSettings()
    queue: QueueSettings = QueueSettings()
    delivery: DeliverySettings = DeliverySettings()
    warehouse: WarehouseSettings = WarehouseSettings()

    @property
    def paths(self) -> Home:
        """The data directory's layout."""
        return Home(self.home)

    @property
    def demo_served(self) -> bool:
        """Whether the page at ``/demo`` is there: it is asked for, and the platform is one for this machine alone."""
        return self.demo.enabled and _is_loopback(self.host) and not self.browser.public_url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Environment above the file (whose content arrives as init arguments): an operator's override wins.
        return env_settings, init_settings


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**given: Any) -> Settings:
    """Settings from the YAML file and the environment; ``given`` fills in where neither speaks.

    Raises:
        SettingsError: the file cannot be read, or a value cannot be used; names the setting.
    """
    home = Path(os.environ.get("SEGMENT_DO_HOME") or given.get("home") or "~/.segment_do").expanduser()
    named = os.environ.get("SEGMENT_DO_CONFIG") or given.get("config")
    path = Path(named).expanduser() if named else home / "segment_do.yaml"
    from_file: dict[str, Any] = {}
    if named or path.exists():
        try:
            loaded = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"The settings file {path} cannot be read: {error}.") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise SettingsError(f"The settings file {path} must hold a mapping of settings.")
        from_file = loaded or {}
    try:
        settings = Settings(**{**given, **from_file})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"The setting {name} cannot be used: {first['msg']}.", hint="docs/settings.md lists all settings."
        ) from error
    if settings.identity.rules_file is not None:  # said now, not by an actor that cannot start
        from segment_do.identity.rules_file import (
            read_rules_file,
        )  # here: few programs that read settings need the graph

        read_rules_file(settings.identity.rules_file)
    if settings.identity.computations_file is not None:
        from segment_do.identity.computations_file import read_computations_file

        read_computations_file(settings.identity.computations_file)
    return settings
