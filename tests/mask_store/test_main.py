import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mask_store import MaskStore
from mask_store.__main__ import main
from tests.support.bundles import EVALUATION, bundle_of, sign_sample, version_bundle

Run = Callable[..., str]


@pytest.fixture
def filled(folder: Path) -> Path:
    """A store with two tasks: demo has versions 1, 2, 3, and 3 is current."""
    store = MaskStore.open(folder)
    for seed in range(3):
        store.publish(version_bundle(seed=seed))
    store.publish(version_bundle("other"))
    return folder


@pytest.fixture
def run(filled: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed and returns what it prints."""

    def call(*arguments: str) -> str:
        assert main(["--store", str(filled), *arguments]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return call


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    return lambda *arguments: json.loads(run(*arguments, "--json"))


def test_list(run: Run, run_json: Callable[..., Any]) -> None:
    title, demo, other = run("list").splitlines()
    assert title.split() == ["task", "version", "size", "published", "(UTC)", "digest", "served", "instead"]
    assert demo.split()[:2] == ["demo", "3"]
    assert other.split()[:2] == ["other", "1"]
    listed = run_json("list")
    assert [task["task"] for task in listed["tasks"]] == ["demo", "other"]
    assert listed["tasks"][0]["digest"] == version_bundle(seed=2).digest
    assert (listed["problems"], listed["traffic"], listed["holds"]) == ([], {}, {})


def test_show(run: Run, run_json: Callable[..., Any]) -> None:
    text = run("show", "demo")
    for expected in (
        "demo, version 3",
        "1, 2, 3 (current)",
        "bad, gut ü",
        "bert-base-uncased, bert, 109,482,240 parameters",
        "80 bits in 1 layers",
        "accuracy 0.9375",
        "437.9 MB",
        version_bundle(seed=2).digest,
    ):
        assert expected in text
    shown = run_json("show", "demo", "--version", "2")
    assert shown["version"]["number"] == 2
    assert shown["current"] == 3
    assert shown["manifest"]["seed"] == 1
    assert shown["finetuned_bytes"] == 437_928_968


def test_show_tells_how_the_dev_set_was_answered(
    run: Run, run_json: Callable[..., Any], filled: Path
) -> None:
    MaskStore.open(filled).publish(bundle_of(task="judged", evaluation=EVALUATION))
    told = "dev set    32 rows; 'bad' for everything has accuracy 0.5; calibration error 0.0625\n"
    assert told in run("show", "judged")
    assert run_json("show", "judged")["manifest"]["evaluation"] == EVALUATION.model_dump(mode="json")


def test_what_is_shown_cannot_write_lines_of_its_own(run: Run, filled: Path) -> None:
    forged = bundle_of(
        task="forged",
        labels=("a\nversions   9 (current)", "\x1b[2Jb"),
        metrics={"accuracy": 0.5, "x\ntask  y": 0.5},
    )
    for seed in range(2):
        MaskStore.open(filled).publish(forged if seed else version_bundle("forged"))
    shown = run("show", "forged")
    assert r"a\nversions   9 (current), \x1b[2Jb" in shown
    assert [line for line in shown.splitlines() if line.startswith("versions")] == [
        "versions   1, 2 (current)"
    ]
    assert all(line.isprintable() for line in run("diff", "forged", "1", "2").splitlines())


def test_verify(run: Run, run_json: Callable[..., Any]) -> None:
    assert run("verify") == "no problems found\n"
    assert run("verify", "demo") == "no problems found\n"
    assert run_json("verify") == {"problems": []}


def test_problems_give_status_1(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (filled / "tasks/demo/current.json").write_text("{")
    assert main(["--store", str(filled), "verify"]) == 1
    assert "problem: demo: task 'demo': its record can't be read" in capsys.readouterr().err
    assert main(["--store", str(filled), "list"]) == 1
    assert "other" in capsys.readouterr().out
    assert main(["--store", str(filled), "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["kind"] == "RecordError"


def test_rollback(run: Run, run_json: Callable[..., Any]) -> None:
    assert run("rollback", "demo") == "task 'demo' version 2 is current now, before it was version 3\n"
    assert run_json("rollback", "demo", "--version", "1")["current"]["number"] == 1
    assert json.loads(run("list", "--json"))["tasks"][0]["number"] == 1


def test_hold(run: Run, run_json: Callable[..., Any], filled: Path) -> None:
    told = "task 'demo' is pinned to version 1 now, until it is released\n"
    assert run("pin", "demo", "--version", "1") == told
    assert run("list").splitlines()[1].endswith("pinned to version 1")
    hold = run_json("unload", "demo")["hold"]
    assert (hold["task"], hold["version"]) == ("demo", None)
    assert run_json("list")["holds"] == {"demo": hold}
    assert run("release", "demo") == "task 'demo' is not unloaded any more\n"
    assert run("release", "demo") == "task 'demo' is neither pinned nor unloaded\n"
    assert run_json("release", "demo") == {"hold": None}
    assert MaskStore.open(filled).hold("demo") is None


def test_clean(filled: Path, run: Run, run_json: Callable[..., Any]) -> None:
    assert run("clean") == "0 files removed\n"
    left = filled / "tasks/demo/bundles/left.safetensors"
    left.write_bytes(b"by a killed publish")
    assert run_json("clean") == {"removed": ["tasks/demo/bundles/left.safetensors"]}
    left.write_bytes(b"by a killed publish")
    assert run("clean") == "removed tasks/demo/bundles/left.safetensors\n1 files removed\n"


def test_a_damaged_record_is_told_and_stops_nothing(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--store", str(filled)]
    (filled / "tasks/demo/versions/00000002.json").write_bytes(bytes(40))
    assert main([*command, "show", "demo"]) == 0
    shown = capsys.readouterr()
    assert "1, 3 (current)" in shown.out
    assert shown.err.startswith("problem: demo version 2: task 'demo': its record can't be read")
    assert main([*command, "rollback", "demo"]) == 0
    done = capsys.readouterr()
    assert done.out == "task 'demo' version 1 is current now, before it was version 3\n"
    assert "problem: demo version 2:" in done.err
    (filled / "tasks/demo/current.json").write_bytes(bytes(40))
    assert main([*command, "show", "demo", "--version", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["current"] is None
    assert main([*command, "rollback", "demo"]) == 1
    assert capsys.readouterr().err.rstrip().endswith("say to which version to roll back")
    assert main([*command, "rollback", "demo", "--version", "3"]) == 0
    assert capsys.readouterr().out.endswith("is current now, before it was damaged\n")


@pytest.mark.parametrize("number", ["0", "-1", "100000000", "9" * 300])
def test_numbers_that_no_version_has(filled: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    for arguments in (["show", "demo", "--version", number], ["rollback", "demo", "--version", number]):
        assert main(["--store", str(filled), *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search("task 'demo' has no version .*, it has 1, 2, 3", line)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "demo"],
        ["verify"],
        ["clean"],
        ["rollback", "demo"],
        ["pin", "demo", "--version", "1"],
        ["unload", "demo"],
        ["release", "demo"],
        ["delete", "demo", "--all-versions"],
        ["diff", "demo", "1", "2"],
    ],
)
def test_a_store_that_can_not_be_reached_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    class NoCredentialsError(Exception):
        """Stands for botocore's, which is no OSError."""

    def fail(*_: Any, **__: Any) -> None:
        raise NoCredentialsError("Unable to locate\ncredentials")

    for method in ("cat_file", "ls"):
        monkeypatch.setattr(f"fsspec.implementations.memory.MemoryFileSystem.{method}", fail)
    assert main(["--store", "memory://bucket/store", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "error: the store can't be used: memory:///bucket/store: store.json: Unable to locate credentials\n"
    )


def test_names_in_a_store_can_not_forge_lines(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (filled / "tasks/x\nproblem: forged").mkdir()
    (filled / "tasks").joinpath(b"\xff".decode(errors="surrogateescape")).mkdir()
    assert main(["--store", str(filled), "verify"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert not any(line.startswith("problem: forged") for line in lines)


def test_delete(run: Run, run_json: Callable[..., Any]) -> None:
    assert run("delete", "demo", "--version", "1") == "deleted task 'demo' version 1\n"
    assert run_json("delete", "demo", "--version", "2") == {"deleted": {"task": "demo", "number": 2}}
    assert run("delete", "other", "--all-versions") == "deleted task 'other' with all its versions\n"
    assert len(run("list").splitlines()) == 2


def test_diff(run: Run, run_json: Callable[..., Any]) -> None:
    text = run("diff", "demo", "1", "2")
    assert "zeros in 1" in text
    assert "pooler.dense" in text
    assert "head: the same" in text
    assert (
        run_json("diff", "demo", "1", "2")["differing"] == run_json("diff", "demo", "2", "1")["differing"] > 0
    )


def test_ensemble(run: Run, run_json: Callable[..., Any]) -> None:
    text = run("ensemble", "together", "--combine", "labels", "demo@1", "demo", "other")
    assert re.fullmatch(r"published task 'together' version 1, an ensemble of 3 members, \d\.\d KB\n", text)
    made = run_json("ensemble", "together", "--combine", "logits", "demo@2", "other@1")["published"]
    assert (made["task"], made["number"]) == ("together", 2)
    assert run("verify") == "no problems found\n"
    assert [task["task"] for task in run_json("list")["tasks"]] == ["demo", "other", "together"]


def test_show_and_diff_of_an_ensemble(run: Run, run_json: Callable[..., Any]) -> None:
    run("ensemble", "together", "--combine", "labels", "demo@1", "demo", "other")
    run("ensemble", "together", "--combine", "probabilities", "demo@1", "demo@2")
    text = run("show", "together", "--version", "1")
    for expected in (
        "ensemble   vote of the labels of 3 members",
        f"member 00  demo version 1, {version_bundle(seed=0).digest[:19]}, seed 0; 80 bits in 1 layers",
        f"member 01  demo version 3, {version_bundle(seed=2).digest[:19]}, seed 2; 80 bits in 1 layers",
        "member 02  other version 1",
        "accuracy 0.9375",
        "not measured for the members together",
        "3 finetuned copies would take 1.3 GB",
        "36 bytes of packed masks, 24 bytes of head",
    ):
        assert expected in text
    shown = run_json("show", "together")
    assert shown["manifest"]["combine"] == "probabilities"
    assert [member["version"] for member in shown["manifest"]["members"]] == [1, 2]
    assert shown["mask_bytes"] == 24
    differences = run("diff", "together", "1", "2")
    assert "00.pooler.dense" in differences
    assert "combination of members: differs" in differences
    assert run_json("diff", "together", "1", "2")["layers"][0]["differing"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ensemble", "e", "--combine", "labels", "demo"], "2 to 64 members, found 1"),
        (["ensemble", "e", "--combine", "labels", "demo@3", "demo"], "are one bundle: name it once"),
        (["ensemble", "e", "--combine", "labels", "demo", "demo@7"], "task 'demo' has no version 7"),
        (["ensemble", "E", "--combine", "labels", "demo", "other"], "no task can be called 'E'"),
        (["show", "nosuch"], "no task 'nosuch' in .*; `list` shows the tasks there are"),
        (["show", "demo", "--version", "9"], "task 'demo' has no version 9, it has 1, 2, 3"),
        (["show", "../demo"], "no task can be called"),
        (["delete", "demo", "--version", "3"], "is current: roll back first, or delete the whole task"),
        (["rollback", "other"], "no earlier version"),
    ],
)
def test_failures(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--store", str(filled), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["list"],
        ["--store", "x"],
        ["--store", "x", "nosuch"],
        ["--store", "x", "delete", "demo"],
        ["--store", "x", "delete", "demo", "--version", "1", "--all-versions"],
        ["--store", "x", "diff", "demo", "1"],
        ["--store", "x", "show", "demo", "--version", "one"],
        ["--store", "x", "ensemble", "e", "demo", "other"],
        ["--store", "x", "ensemble", "e", "--combine", "median", "demo", "other"],
        ["--store", "x", "ensemble", "e", "--combine", "labels"],
        ["--store", "x", "ensemble", "e", "--combine", "labels", "demo@", "other"],
        ["--store", "x", "ensemble", "e", "--combine", "labels", "demo@one", "other"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("python -m mask_store")


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in ("list", "show", "verify", "clean", "rollback", "delete", "diff", "ensemble"):
        assert f"--store masks {command}" in text


def test_as_a_process(filled: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mask_store", "--store"]
    good = subprocess.run(
        [*command, str(filled), "list", "--json"], capture_output=True, text=True, check=True
    )
    assert len(json.loads(good.stdout)["tasks"]) == 2
    bad = subprocess.run(
        [*command, str(tmp_path / "no"), "list"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 1
    assert bad.stderr == f"error: no mask store at {tmp_path / 'no'}: expected store.json there\n"


def test_show_tells_what_copy_signs_are_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MaskStore.open(tmp_path, create=True).publish(sign_sample())
    assert main(["--store", str(tmp_path), "show", "demo"]) == 0
    shown = capsys.readouterr().out
    for expected in ("40 bits in 1 layers, of my-trec", "agreement 0.9844", "12 bytes of scales"):
        assert expected in shown
    assert "flipped" not in shown
    assert main(["--store", str(tmp_path), "show", "demo", "--json"]) == 0
    assert "sparsity" not in json.loads(capsys.readouterr().out)


def test_prune(run: Run, run_json: Callable[..., Any], filled: Path) -> None:
    would = run_json("prune", "--keep", "2", "--dry-run")
    assert [(one["task"], one["number"]) for one in would["versions"]] == [("demo", 1)]
    assert would["deleted"] is False
    assert run("prune", "--keep", "2", "--days", "30").splitlines() == ["0 versions deleted"]
    *_, deleted, count = run("prune", "demo", "--keep", "2").splitlines()
    assert deleted.split()[:2] == ["demo", "1"]
    assert count == "1 versions deleted"
    assert [one.number for one in MaskStore.open(filled).versions("demo")] == [2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "--keep or --days says what stays"),
        (["prune", "--keep", "-1"], "expected a whole number from 0 on, found '-1'"),
        (["prune", "--days", "x"], "expected a whole number from 0 on, found 'x'"),
    ],
)
def test_prune_wants_to_know_what_stays(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--store", str(filled), *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_copy(run: Run, run_json: Callable[..., Any], tmp_path: Path) -> None:
    other = tmp_path / "other"
    first, second = run("copy", "--to", str(other), "--create").splitlines()
    assert first.startswith(f"task 'demo' version 3 is task 'demo' version 1 in {other}")
    assert second.startswith("task 'other' version 1 is")
    (copied,) = run_json("copy", "--to", str(other), "demo@1")["published"]
    assert (copied["from"]["number"], copied["to"]["number"]) == (1, 2)
    assert copied["from"]["digest"] == copied["to"]["digest"]
    again = run_json("copy", "--to", str(other), "demo@1")["published"]
    assert again[0]["to"]["number"] == 2  # what is current already is no new version
    assert MaskStore.open(other).load("demo").digest == version_bundle(seed=0).digest


def test_copy_to_no_store(filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", str(filled), "copy", "--to", str(tmp_path / "none")]) == 1
    assert "no mask store at" in capsys.readouterr().err


def test_traffic(run: Run, run_json: Callable[..., Any], filled: Path) -> None:
    assert run("traffic", "demo") == "task 'demo' has no traffic: its current version gets all requests\n"
    assert run_json("traffic", "demo") == {"traffic": None}
    options = [
        "--weights",
        "3=90",
        "2=10",
        "--shadow",
        "2",
        "--abort-agreement",
        "0.95",
        "--abort-rows",
        "50",
    ]
    title, second, third, rule, since = run("traffic", "demo", *options).splitlines()
    assert title.split() == ["version", "requests"]
    assert second.split() == ["2", "10", "%", "shadow"]
    assert third.split() == ["3", "90", "%", "stable"]
    assert rule == "aborted at agreement below 0.95, after 50 rows"
    assert since.startswith("set 2")
    told = run_json("traffic", "demo")["traffic"]
    assert (told["weights"], told["abort"]["agreement"]) == ({"2": 10.0, "3": 90.0}, 0.95)
    assert run("list").splitlines()[1].endswith("version 2 10 %, version 3 90 %, version 2 as shadow")
    assert run_json("list")["traffic"] == {"demo": told}
    assert run("promote", "demo") == "task 'demo' version 2 is current now, and gets all requests\n"
    assert MaskStore.open(filled).current("demo").number == 2


def test_abort(run: Run, run_json: Callable[..., Any]) -> None:
    run("traffic", "demo", "--weights", "1=100", "3=0", "--stable", "1")
    printed = run("abort", "demo", "--reason", "too slow")
    assert printed == "task 'demo' version 1 is current now, and gets all requests\n"
    assert run("traffic", "demo").splitlines()[-1].endswith("UTC: too slow")
    run("traffic", "demo", "--shadow", "2")
    assert run_json("promote", "demo", "--version", "2")["current"]["number"] == 2
    run("traffic", "demo", "--shadow", "3")
    assert run_json("abort", "demo")["traffic"]["aborted"]["reason"] == "by an operator"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--weights", "3:90"], 2, "expected N=PERCENT, such as 4=10, found '3:90'"),
        (["--weights", "3=90", "2=20"], 2, "have to be 100 together, not 110"),
        (["--weights", "3=110", "2=-10"], 2, "weights.3: Input should be less than or equal to 100"),
        (["--weights", "3=nan"], 2, "finite number"),
        (["--weights", "3=50", "3=50"], 2, "a version is there twice"),
        (
            ["--shadow", "2", "--abort-errors", "2"],
            2,
            "abort.errors: Input should be less than or equal to 1",
        ),
        (["--shadow", "2", "--abort-errors", "few"], 2, "expected a share such as 0.95, found 'few'"),
        (["--shadow", "2", "--abort-rows", "5"], 2, "--abort-rows goes with"),
        (["--weights", "3=100", "--abort-agreement", "0.9"], 2, "there is none"),
        (["--shadow", "3"], 1, "version 3 is the stable one and can't be compared with itself"),
        (["--shadow", "9"], 1, "no version 9, it has 1, 2, 3"),
        (["--weights", "1=100"], 1, "version 3, which is current, is not among the weights"),
    ],
)
def test_traffic_that_is_refused(
    filled: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, message: str
) -> None:
    command = ["--store", str(filled), "traffic", "demo", *options]
    if status == 1:
        assert main(command) == 1
    else:
        with pytest.raises(SystemExit) as raised:
            main(command)
        assert raised.value.code == status
    assert message in capsys.readouterr().err
    assert MaskStore.open(filled).traffic("demo") is None


def test_the_store_may_stand_before_or_after_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / "masks")
    MaskStore.open(place, create=True)
    assert main(["--store", place, "list", "--json"]) == 0
    before = capsys.readouterr().out
    assert main(["list", "--json", "--store", place]) == 0
    assert capsys.readouterr().out == before
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 2
    assert "--store DIR is missing" in capsys.readouterr().err
