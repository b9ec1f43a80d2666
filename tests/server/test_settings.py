import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings, SettingsError, load_settings, settings_of

NEEDED = ("--base", "bert", "--store", "masks")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MASKSERVE_{name.upper()}", raising=False)


def _mistakes(*arguments: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    return str(caught.value).splitlines()


def test_defaults() -> None:
    settings = load_settings(NEEDED)
    assert (settings.base, settings.store) == ("bert", "masks")
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert settings.max_bundle_bytes == 64 << 20
    assert settings.max_body_bytes == 2 << 20
    assert settings.revision is None


def test_a_store_is_created_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings(NEEDED).create_store
    assert load_settings([*NEEDED, "--create-store"]).create_store
    monkeypatch.setenv("MASKSERVE_CREATE_STORE", "true")
    assert load_settings(NEEDED).create_store


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(NEEDED)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, "port", 1)  # noqa: B010


def test_command_line_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1\nmax_batch_rows = 2\nqueue_limit = 3\n")
    monkeypatch.setenv("MASKSERVE_PORT", "10")
    monkeypatch.setenv("MASKSERVE_MAX_BATCH_ROWS", "20")
    settings = load_settings([*NEEDED, "--config", str(file), "--port", "100"])
    assert (settings.port, settings.max_batch_rows, settings.queue_limit) == (100, 20, 3)
    assert settings.poll_seconds == 0.1


def test_the_environment_can_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('base = "b"\nstore = "s"\nmax_body_bytes = "3MiB"\n')
    monkeypatch.setenv("MASKSERVE_CONFIG", str(file))
    settings = load_settings([])
    assert (settings.base, settings.store) == ("b", "s")
    assert settings.max_body_bytes == 3 << 20


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("512MiB", 512 << 20), ("1", 1)])
def test_sizes_take_units(text: str, size: int) -> None:
    assert load_settings([*NEEDED, "--max-body-bytes", text]).max_body_bytes == size


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(NEEDED).kernels == "auto"
    assert load_settings([*NEEDED, "--kernels", "off"]).kernels == "off"
    monkeypatch.setenv("MASKSERVE_KERNELS", "off")
    assert load_settings(NEEDED).kernels == "off"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices(device: str) -> None:
    assert load_settings([*NEEDED, "--device", device]).device == device


def test_missing_settings_are_all_named() -> None:
    assert _mistakes() == [
        "--base is required (or MASKSERVE_BASE)",
        "--store is required (or MASKSERVE_STORE)",
    ]


def test_every_mistake_of_every_source_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text("prot = 80\nthreads = -1\n")
    monkeypatch.setenv("MASKSERVE_DEVICE", "tpu")
    mistakes = _mistakes(*NEEDED, "--config", str(file), "--port", "99999", "--shutdown-seconds=-1")
    assert len(mistakes) == 5
    told = "\n".join(mistakes)
    assert "--port: Input should be less than or equal to 65535; got '99999'" in told
    assert "'prot' in a configuration file is not a setting" in told
    assert "--threads" in told
    assert "--device" in told
    assert "--shutdown-seconds" in told


def test_values_of_another_file_stand_in_for_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKSERVE_STORE", "masks")
    monkeypatch.setenv("MASKSERVE_THREADS", "3")
    settings = settings_of({"base": "tiny", "threads": 2})
    assert (settings.base, settings.store, settings.threads) == ("tiny", "masks", 2)


def test_mistakes_in_values_of_another_file_are_reported_as_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASKSERVE_THRAEDS", "3")
    with pytest.raises(SettingsError) as raised:
        settings_of({"base": "tiny", "prot": 80, "threads": -1})
    told = str(raised.value)
    assert len(told.splitlines()) == 4
    assert "'prot' in a configuration file is not a setting" in told
    assert "--store is required (or MASKSERVE_STORE)" in told
    assert "--threads" in told
    assert "MASKSERVE_THRAEDS is no setting" in told


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--base", ""),
        ("--port", "-1"),
        ("--max-bundle-bytes", "3 stones"),
        ("--max-batch-rows", "0"),
        ("--max-batch-tokens", "none"),
        ("--max-wait-ms", "nan"),
        ("--max-wait-ms", "1001"),
        ("--queue-limit", "0"),
        ("--request-timeout-ms", "0"),
        ("--request-timeout-ms", "inf"),
        ("--poll-seconds", "0"),
        ("--poll-seconds", "inf"),
        ("--poll-seconds", "nan"),
        ("--max-body-bytes", "0"),
        ("--shutdown-seconds", "99999999999"),
        ("--log-level", "loud"),
        ("--kernels", "fast"),
    ],
)
def test_a_value_out_of_range_names_its_option(option: str, value: str) -> None:
    arguments = dict(zip(NEEDED[::2], NEEDED[1::2], strict=True)) | {option: value}
    mistakes = _mistakes(*(f"{name}={given}" for name, given in arguments.items()))
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"{option}: ")
    assert mistakes[0].endswith(f"; got {value!r}")


def test_unknown_arguments_are_refused() -> None:
    assert _mistakes(*NEEDED, "--prot", "80", "extra") == [
        "unknown arguments --prot; --help lists the options"
    ]
    assert _mistakes(*NEEDED, "extra") == ["unknown arguments extra; --help lists the options"]


@pytest.mark.parametrize("option", ["--admin-keys=sesame", "--apikeys=sesame"])
def test_a_key_behind_a_misspelt_option_is_not_repeated(option: str) -> None:
    (mistake,) = _mistakes(*NEEDED, option)
    assert option.partition("=")[0] in mistake
    assert "sesame" not in mistake


@pytest.mark.parametrize("given", ["one,two", " one , two,", '["one", "two"]'])
def test_lists_are_split(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings([*NEEDED, "--require-task", given]).require_task == ("one", "two")
    monkeypatch.setenv("MASKSERVE_API_KEYS", given)
    keys = load_settings(NEEDED).api_keys
    assert [key.get_secret_value() for key in keys] == ["one", "two"]


def test_an_option_of_a_list_may_be_given_several_times() -> None:
    arguments = [*NEEDED, "--require-task", "one", "--require-task", "two"]
    assert load_settings(arguments).require_task == ("one", "two")


@pytest.mark.parametrize("given", [["--group", "a=x,y", "--group=b=z"], ["--group", "a=x,y,b=z"]])
def test_groups_are_named_lists(given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"a": ("x", "y"), "b": ("z",)}
    assert load_settings([*NEEDED, *given]).group == groups
    monkeypatch.setenv("MASKSERVE_GROUP", "a=x,y,b=z")
    assert load_settings(NEEDED).group == groups
    monkeypatch.delenv("MASKSERVE_GROUP")
    file = tmp_path / "server.toml"
    file.write_text('[group]\na = ["x", "y"]\nb = "z"\n')
    assert load_settings([*NEEDED, "--config", str(file)]).group == groups


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a,b", "'a' is in no group; a group looks like guards=toxicity,spam"),
        ("a=x,a=y", "group 'a' is there twice"),
        ("a=x,x", "a group is made of tasks, at least one and each once"),
        ("a=", "'' is no name of a task"),
        ("a=X", "'X' is no name of a task"),
        ("A=x", "String should match pattern"),
    ],
)
def test_a_wrong_group_is_explained(given: str, said: str) -> None:
    (mistake,) = _mistakes(*NEEDED, "--group", given)
    assert mistake.startswith("--group: ")
    assert said in mistake


def test_keys_are_in_no_text_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('api_keys = ["sesame"]\nadmin_key = "rumpelstilz"\n')
    settings = load_settings([*NEEDED, "--config", str(file)])
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "sesame" not in text
        assert "rumpelstilz" not in text
    file.write_text('api_keys = ["sesame", 47110815]\nadmin_key = 47110815\n')
    mistakes = _mistakes(*NEEDED, "--config", str(file))
    assert [mistake.split(":")[0] for mistake in mistakes] == ["--admin-key", "--api-keys"]
    assert "47110815" not in "".join(mistakes)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (mistake,) = _mistakes(*NEEDED, "--config", str(tmp_path / "no.toml"))
    assert mistake.startswith("--config: there is no file ")


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port: 80\n")
    (mistake,) = _mistakes(*NEEDED, "--config", str(file))
    assert mistake.startswith("--config: ")
    assert "line 1" in mistake


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "python -m server --base" in told
    assert "unknown" not in told
    for name in set(Settings.model_fields) - {"unknown"}:
        assert f"--{name.replace('_', '-')}" in told


def test_help_names_no_types_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(["--help"])
    text = capsys.readouterr().out
    assert re.findall(r"\b(str|int|float|tuple|dict|None|ByteSize|SecretStr)\b", text) == []
    assert "--group NAME=A,B" in text


def test_the_examples_of_help_name_the_command_that_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(["--help"], "maskserve serve")
    told = capsys.readouterr().out
    assert "  maskserve serve --base" in told
    assert "python -m server" not in told


def test_an_option_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_settings([*NEEDED, "--port"])
    assert stopped.value.code == 2
    assert "--port: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", " spaced ", "schlüssel", "a\nb"])
def test_what_can_be_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKSERVE_ADMIN_KEY", key)
    monkeypatch.setenv("MASKSERVE_API_KEYS", json.dumps(["fine", key]))
    mistakes = _mistakes(*NEEDED)
    assert [mistake.split(":")[0] for mistake in mistakes] == ["--admin-key", "--api-keys"]
    assert all(mistake.endswith("without spaces around it") for mistake in mistakes)


@pytest.mark.parametrize("given", ["", " ", ",", " , ", "[]", '""', "''", '[""]', '[" "]', "-"])
def test_keys_that_are_set_but_empty_do_not_open_the_server(
    given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MASKSERVE_API_KEYS", given)
    (mistake,) = _mistakes(*NEEDED)
    assert mistake.startswith("--api-keys: ")
    assert len(_mistakes(*NEEDED, f"--api-keys={given}")) == 1
    monkeypatch.delenv("MASKSERVE_API_KEYS")
    monkeypatch.setenv("MASKSERVE_ADMIN_KEY", given)
    if not given.startswith("["):
        assert _mistakes(*NEEDED)[0].startswith("--admin-key: ")
    monkeypatch.delenv("MASKSERVE_ADMIN_KEY")
    file = tmp_path / "server.toml"
    file.write_text("api_keys = []\n")
    assert "holds no key" in _mistakes(*NEEDED, "--config", str(file))[0]
    assert load_settings(NEEDED).api_keys == ()


@pytest.mark.parametrize(
    ("given", "path"),
    [("", ""), ("/", ""), ("/masks", "/masks"), ("/masks/", "/masks"), ("/a/b-c", "/a/b-c")],
)
def test_the_path_of_a_proxy(given: str, path: str) -> None:
    assert load_settings([*NEEDED, f"--root-path={given}"]).root_path == path


@pytest.mark.parametrize("given", ["masks", "//", "/a b", "/a?b", "http://host/masks"])
def test_what_is_no_path_of_a_proxy(given: str) -> None:
    (mistake,) = _mistakes(*NEEDED, f"--root-path={given}")
    assert mistake.startswith("--root-path: a path begins with a slash")


def test_origins() -> None:
    given = "https://app.example, http://localhost:3000"
    settings = load_settings([*NEEDED, "--cors-origins", given])
    assert settings.cors_origins == ("https://app.example", "http://localhost:3000")
    assert load_settings([*NEEDED, "--cors-origins", "*"]).cors_origins == ("*",)
    for wrong in ("app.example", "https://app.example/", "https://*.example", "https://a.example/page"):
        (mistake,) = _mistakes(*NEEDED, "--cors-origins", wrong)
        assert mistake.startswith("--cors-origins: ")


def test_precisions() -> None:
    assert load_settings(NEEDED).precision == "auto"
    for known in ("auto", "fp32", "bf16", "int8", "tf32", "tf32x3"):
        assert load_settings([*NEEDED, "--precision", known]).precision == known
    (mistake,) = _mistakes(*NEEDED, "--precision", "fp16")
    assert mistake.startswith("--precision: ")


@pytest.mark.parametrize("precision", ["bf16", "int8", "tf32"])
def test_without_kernels_there_is_fp32_alone(precision: str) -> None:
    (mistake,) = _mistakes(*NEEDED, "--kernels", "off", "--precision", precision)
    assert mistake == f"--kernels: without kernels there is no --precision {precision}, only fp32; got 'off'"
    for possible in ("auto", "fp32"):
        assert load_settings([*NEEDED, "--kernels", "off", "--precision", possible]).kernels == "off"
