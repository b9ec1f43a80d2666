import pytest

from server.environment import service_links, unknown_variables
from server.settings import Settings, SettingsError, load_settings

NAMES = Settings.model_fields
OPTIONS = ["--base", "b", "--store", "s"]
LINKS = {
    "MASKSERVE_SERVICE_HOST": "10.0.0.12",
    "MASKSERVE_SERVICE_PORT": "80",
    "MASKSERVE_SERVICE_PORT_HTTP": "80",
    "MASKSERVE_PORT": "tcp://10.0.0.12:80",
    "MASKSERVE_PORT_80_TCP": "tcp://10.0.0.12:80",
    "MASKSERVE_PORT_80_TCP_PROTO": "tcp",
    "MASKSERVE_PORT_80_TCP_PORT": "80",
    "MASKSERVE_PORT_80_TCP_ADDR": "10.0.0.12",
    "MASKSERVE_PREDICTOR_SERVICE_HOST": "10.0.0.13",
    "MASKSERVE_PREDICTOR_PORT": "udp://10.0.0.13:80",
}


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    assert load_settings(OPTIONS).port == 8000
    assert load_settings([*OPTIONS, "--port", "9"]).port == 9
    assert sorted(service_links(LINKS, NAMES)) == sorted(LINKS)


def test_a_port_of_ours_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKSERVE_PORT", "9000")
    assert load_settings(OPTIONS).port == 9000
    assert service_links({"MASKSERVE_PORT": "9000", "PORT": "tcp://x"}, NAMES) == []


def test_a_misspelt_variable_is_refused_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKSERVE_QUEUE_LIMITS", "9")
    monkeypatch.setenv("maskserve_nonsense", "9")
    with pytest.raises(SettingsError) as caught:
        load_settings([*OPTIONS, "--port", "x"])
    port, queue, nonsense = str(caught.value).splitlines()
    assert port.startswith("--port")
    assert queue == "MASKSERVE_QUEUE_LIMITS is no setting; do you mean MASKSERVE_QUEUE_LIMIT?"
    assert nonsense == "maskserve_nonsense is no setting; --help lists them"


def test_other_programs_variables_are_theirs() -> None:
    assert unknown_variables(["PATH", "MASKSERVER", "MASKSERVE_BASE", "maskserve_port"], NAMES) == []
