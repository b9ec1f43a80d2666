"""Server settings: one frozen object, from command line, environment and file.

A value comes from the command line, else from a `MASKSERVE_*` environment variable, else from the TOML file
named by `--config`, else from the default. Every mistake in all of them is reported at once.
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    CliImplicitFlag,
    CliSettingsSource,
    CliUnknownArgs,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from mask_store.format.mask_info import TASK_NAME, TASK_NAME_RULE
from mask_store.terminal import CommandParser
from server.environment import PREFIX, service_links, unknown_variables

DESCRIPTION = """\
Serve many tasks from one frozen encoder. Every task of the store is answered at POST /predict/TASK;
a version published while the server runs is served within seconds, without a restart."""

EPILOG = """\
Each option can also be set by an environment variable (--max-batch-rows: MASKSERVE_MAX_BATCH_ROWS) or by a
key of the --config file (max_batch_rows = 64). The command line wins over the environment, the environment
over the file, the file over the default. Sizes take units: 512MiB, 2GB.

examples:
  %(prog)s --base bert-base-uncased --store ./masks
  %(prog)s --base ./encoder --store s3://bucket/masks --host 0.0.0.0 --device cuda
  MASKSERVE_BASE=./encoder MASKSERVE_STORE=./masks %(prog)s --max-body-bytes 8MiB
"""

_IN_EMPTY_VOLUMES = {"lost+found", ".gitkeep"}
_VALUES = {  # what --help calls a value, by the beginning of its type
    "dict[": "NAME=A,B",
    "tuple[": "A,B",
    "SecretStr": "KEY",
    "ByteSize": "SIZE",
    "Path": "FILE",
    "float": "NUMBER",
    "int": "N",
    "str": "TEXT",
}
_NO_DEFAULT = re.compile(r" \(default: (None|\(\)|{})\)$")


def _split(given: Any) -> Any:
    """Read a list from one string, as the command line and the environment have it: "a,b" or JSON."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        return json.loads(given)
    return [part.strip() for part in given.split(",") if part.strip()]


def _split_groups(given: Any) -> Any:
    """Read groups from one string: each part with an equals sign begins one, "a=x,y,b=z" are two."""
    if isinstance(given, Mapping):
        return {name: _split(tasks) for name, tasks in given.items()}
    groups: dict[str, list[str]] = {}
    for part in _split(given):
        name, equals, task = str(part).rpartition("=")
        if equals and name in groups:
            raise ValueError(f"group {name!r} is there twice")
        if equals:
            groups[name] = []
        elif not groups:
            raise ValueError(f"{part!r} is in no group; a group looks like guards=toxicity,spam")
        groups[next(reversed(groups))].append(task)
    return groups


def _group(tasks: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [task for task in tasks if not TASK_NAME.fullmatch(task)]:
        raise ValueError(f"{wrong[0]!r} is no name of a task: {TASK_NAME_RULE}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError("a group is made of tasks, at least one and each once")
    return tasks


def _split_keys(given: Any) -> Any:
    """Read a list of keys, which is not empty: a secret that is missing must not open the server."""
    keys = _split(given)
    if keys == []:  # the default, that nothing is set, is a tuple
        raise ValueError("is set, but holds no key; leave it out to let everyone predict")
    return keys


def _origin(origin: str) -> str:
    if not re.fullmatch(r"\*|https?://[^/\s*]+", origin):
        raise ValueError(f"{origin!r} is no origin; one looks like https://app.example, or * for all")
    return origin


def _key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable() and text == text.strip() and re.search(r"\w", text)):
        raise ValueError("a key is printable ASCII with letters or digits, without spaces around it")
    return key


_SECRETS = ("admin_key", "api_keys")
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Key = Annotated[SecretStr, AfterValidator(_key)]
Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_split_keys)]
_GroupName = Annotated[str, Field(pattern=f"^{TASK_NAME.pattern}$")]
Groups = Annotated[
    dict[_GroupName, Annotated[tuple[str, ...], AfterValidator(_group)]],
    NoDecode,
    BeforeValidator(_split_groups),
]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)]


class _Environment(EnvSettingsSource):
    """The environment, without what an orchestrator set for a service that is called as this product is."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        links = {name.lower() for name in ignored_variables()}
        return {name: value for name, value in super()._load_env_vars().items() if name not in links}


class _ConfigFile(PydanticBaseSettingsSource):
    """The TOML file that a stronger source (command line or environment) named as `config`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        if path is None or not Path(path).is_file():
            return {}
        return TomlConfigSettingsSource(self.settings_cls, toml_file=Path(path))()


class Settings(BaseSettings):
    """All settings of one server process; immutable."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        cli_kebab_case=True,
        cli_ignore_unknown_args=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    base: str = Field(min_length=1, description="pretrained encoder: a Hugging Face id or a folder")
    store: str = Field(min_length=1, description="mask store: a folder or an fsspec URL (s3://...)")
    create_store: CliImplicitFlag[bool] = Field(
        False,
        description="make an empty store where there is none, to be filled by uploads or by training; an "
        "existing folder that is empty is always taken as an empty store",
    )
    revision: str | None = Field(None, description="revision of the base on the Hugging Face hub")
    config: Path | None = Field(None, description="TOML file with any of these settings")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port for the Open Inference Protocol over gRPC, which needs the extra grpc; 0 takes a "
        "free one; none by default",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (the GPU where there is one), cpu, cuda, cuda:N or mps",
    )
    threads: int = Field(
        0,
        ge=0,
        description="compute threads on a CPU; 0: one for each core, or as many as the CPU quota allows",
    )
    precision: Literal["auto", "fp32", "bf16", "int8", "tf32", "tf32x3"] = Field(
        "auto",
        description="in which precision the encoder multiplies. auto: bf16 where the device multiplies it "
        "natively, else fp32; fp32: float32, on any device; bf16: bfloat16 with float32 sums, on a CPU with "
        "AMX or AVX512-BF16 or on a GPU; int8: 8-bit integers, the rest as in bf16, on a CPU with AMX or "
        "AVX512-VNNI; tf32 and tf32x3, on a GPU: tensor cores on float32, the second nearly exact",
    )
    kernels: Literal["auto", "off"] = Field(
        "auto",
        description="auto uses numba's kernel on a CPU and Triton's on a GPU where they are installed; off "
        "computes masked layers by torch alone, in fp32, with a masked copy of each weight for each task of "
        "a batch",
    )
    max_batch_rows: int = Field(256, ge=1, description="most rows (token sequences) in one batch")
    max_batch_tokens: int = Field(
        0,
        ge=0,
        description="most tokens in one batch, as computed (without padding); an input with more is refused; "
        "0: 8192 on a CPU, 16384 on a GPU",
    )
    max_wait_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="how long an idle worker waits for more rows before it takes a batch that is not full; "
        "while it computes, rows gather by themselves",
    )
    queue_limit: int = Field(
        2048, ge=1, description="most rows waiting, of all tasks; a request above it is answered 429"
    )
    queue_seconds: float = Field(
        3.0,
        gt=0,
        le=86_400,
        description="a request is answered 429 while what is computed before it takes longer than this; "
        "measured by the last batches",
    )
    request_timeout_ms: float = Field(
        30_000,
        gt=0,
        le=86_400_000,
        description="a request not answered after this time is answered 504; if it still waits it is dropped",
    )
    poll_seconds: float = Field(
        0.1,
        gt=0,
        le=86_400,
        description="how often the store is looked at for new versions; more seldom where a look is much "
        "work, so that looking takes 2 % of a core at most",
    )
    load_threads: int = Field(2, ge=1, le=64, description="how many versions are loaded at once")
    require_task: Names = Field(
        (),
        description="a task without which the server is not ready, and whose masks stay in memory; may be "
        "given several times",
    )
    mask_memory: ByteSize | None = Field(
        None,
        ge=1,
        description="most bytes of masks in the device's memory; those that were used least recently go out, "
        "and come back with the next request to their task; by default half of what is free at start",
    )
    cache_dir: Path | None = Field(
        None,
        description="folder on this machine for copies of bundles, where the store is not; safe to lose",
    )
    cache_bytes: ByteSize = Field(ByteSize(10 << 30), ge=1, description="most bytes of these copies")
    group: Groups = Field(
        {},
        description="tasks that are asked together by one name, such as guards=toxicity,spam; may be given "
        "several times",
    )
    max_bundle_bytes: ByteSize = Field(
        ByteSize(64 << 20), ge=1, description="longest bundle that is uploaded"
    )
    admin_key: Key | None = Field(
        None, description="key for load, unload, pin, rollback, upload and delete; none: off"
    )
    api_keys: Keys = Field(
        (), description="keys of clients, with commas between them; none: everyone may predict"
    )
    keys_file: Path | None = Field(
        None,
        description="file of API keys with the tasks that each may call and its limits, made by the command "
        "keys; read again when it changes. With it everyone needs a key, for GET /metrics too",
    )
    metrics_max_tasks: int = Field(
        100, ge=0, description="tasks with metrics of their own; the others count as one"
    )
    metrics_max_keys: int = Field(
        100, ge=0, description="keys of the keys file with metrics of their own; the others count as one"
    )
    max_body_bytes: ByteSize = Field(
        ByteSize(2 << 20), ge=1, description="longest request body, as sent and as unpacked; not of uploads"
    )
    max_body_values: int = Field(
        100_000,
        ge=100,
        description="most values of a JSON body, or of a line of JSON lines, keys included: decoding stops "
        "everything else, for a few milliseconds per 10,000 values",
    )
    body_seconds: float = Field(
        30,
        gt=0,
        le=86_400,
        description="longest time that a body may take, and a second more for each 64 KiB that came of it",
    )
    max_head_bytes: ByteSize = Field(
        ByteSize(64 << 10), ge=1024, le=1 << 24, description="longest request line and headers, together"
    )
    head_seconds: float = Field(
        20,
        gt=0,
        le=86_400,
        description="longest time from the first byte of a request to the end of its headers",
    )
    keep_alive_seconds: float = Field(
        75,
        gt=0,
        le=86_400,
        description="how long a connection without a request is kept; longer than by the load balancer",
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="most connections; 0: 4096, or as many as the limit of open files allows. When there are "
        "as many, the one that waits longest for its next request is closed for a new one",
    )
    forwarded_allow_ips: Names = Field(
        ("127.0.0.1", "::1"),
        description="addresses and networks of proxies whose X-Forwarded-* headers are believed; * for all",
    )
    root_path: str = Field(
        "",
        description="path under which a proxy serves this server, such as /masks; it may be cut off or not",
    )
    ui: CliImplicitFlag[bool] = Field(
        True, description="serve the console, a page for browsers, at /ui, and lead browsers there from /"
    )
    cors_origins: Origins = Field(
        (), description="origins whose pages in a browser may call this server, such as https://app.example"
    )
    shutdown_seconds: int = Field(
        30, ge=0, le=86_400, description="longest wait for requests in flight at SIGTERM"
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="how long after SIGTERM new requests are still taken, though not ready",
    )
    otlp_endpoint: str | None = Field(
        None, pattern=r"^https?://", description="where traces go: http://collector:4318/v1/traces"
    )
    log_format: Literal["text", "json"] = Field("text", description="how log lines look")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")
    unknown: CliUnknownArgs = Field([], exclude=True, repr=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; pydantic-settings puts the command line before them."""
        return init_settings, _Environment(settings_cls), _ConfigFile(settings_cls)

    @property
    def makes_store(self) -> bool:
        """Whether a store is made where there is none: as set, or in a folder with nothing in it.

        Such a folder is a new volume.
        """
        if self.create_store:
            return True
        try:
            return not {entry.name for entry in Path(self.store).iterdir()} - _IN_EMPTY_VOLUMES
        except OSError:  # not there, or not a folder, or not to be read: opening it says so
            return False

    @field_validator("config")
    @classmethod
    def _file_exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @field_validator("kernels")
    @classmethod
    def _computes_the_precision(cls, kernels: str, others: ValidationInfo) -> str:
        precision = others.data.get("precision", "auto")
        if kernels == "off" and precision not in ("auto", "fp32"):
            raise ValueError(f"without kernels there is no --precision {precision}, only fp32")
        return kernels

    @field_validator("root_path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if not re.fullmatch(r"(/[^/?#\s]+)*/?", path):
            raise ValueError("a path begins with a slash, such as /masks")
        return path.rstrip("/")

    @field_validator("unknown")
    @classmethod
    def _nothing_unknown(cls, arguments: Sequence[str]) -> Sequence[str]:
        if arguments:
            names = [argument.split("=")[0] for argument in arguments if argument.startswith("-")]
            raise ValueError(f"unknown arguments {' '.join(names or arguments)}; --help lists the options")
        return arguments


class SettingsError(ValueError):
    """Some settings are wrong; the message has one line for each of them."""


def load_settings(arguments: Sequence[str], prog: str = "python -m server") -> Settings:
    """Build the settings from the command line, the environment and the file.

    Args:
        arguments: The command line without the program's name.
        prog: The program's name, for `--help`.

    Returns:
        The frozen settings.

    Raises:
        SettingsError: One or more settings are missing, unknown or out of range; all are named.
        SystemExit: For `--help`, and for an option without its value.
    """
    parser = CommandParser(
        prog=prog,
        allow_abbrev=False,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source: CliSettingsSource[Any] = CliSettingsSource(
        Settings,
        cli_parse_args=list(arguments),
        root_parser=parser,
        add_argument_method=_add_argument,
    )
    return _checked(lambda: Settings(_cli_settings_source=source))


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Build the settings from values by name, such as a mapping of another configuration file.

    Args:
        values: Fields of `Settings`, in the place of the command line; what is not there comes from the
            environment and the file.

    Raises:
        SettingsError: As by `load_settings`.
    """
    return _checked(lambda: Settings(**values))


def _checked(build: Callable[[], Settings]) -> Settings:
    names = set(os.environ).difference(ignored_variables())
    unknown = unknown_variables(sorted(names), Settings.model_fields)
    try:
        settings = build()
    except ValidationError as error:
        mistakes = [_explain(mistake) for mistake in error.errors()]
        raise SettingsError("\n".join([*mistakes, *unknown])) from None
    except (ValueError, OSError) as error:  # a file that is no TOML, or that can't be read
        raise SettingsError(f"--config: {error}") from None
    if unknown:
        raise SettingsError("\n".join(unknown))
    return settings


def _add_argument(
    group: argparse._ActionsContainer, *flags: str, metavar: Any = None, help: str = "", **details: Any
) -> argparse.Action:
    """Add an option, with a word for its value where pydantic-settings names a type of Python."""
    if metavar is not None:
        details["metavar"] = next(
            (word for kind, word in _VALUES.items() if str(metavar).startswith(kind)), metavar
        )
    return group.add_argument(*flags, help=_NO_DEFAULT.sub("", help), **details)


def ignored_variables() -> list[str]:
    """Return the environment variables that look like settings and are an orchestrator's service links."""
    return service_links(os.environ, Settings.model_fields)


def _explain(mistake: Any) -> str:
    name = str(mistake["loc"][0]) if mistake["loc"] else ""
    if name == "unknown":
        return str(mistake["ctx"]["error"])
    option = "--" + name.replace("_", "-")
    if mistake["type"] == "missing":
        return f"{option} is required (or {PREFIX}{name.upper()})"
    if mistake["type"] == "extra_forbidden":
        return f"{name!r} in a configuration file is not a setting"
    message = mistake["msg"].removeprefix("Value error, ")
    if name in _SECRETS:
        return f"{option}: {message}"
    return f"{option}: {message}; got {str(mistake['input'])!r}"
