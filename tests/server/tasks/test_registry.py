from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

import server.tasks.registry
from masking import Base, LoadedTask, load_base, load_task
from server.errors import TaskNotFoundError, TaskUnavailableError, TaskUnloadedError
from server.tasks.registry import ServedTask, TaskEntry, TaskProblem, TaskRegistry, TaskState
from tests.support.serving import bundle_of


@pytest.fixture(scope="module")
def loaded(tiny_bert: str) -> LoadedTask:
    base: Base = load_base(tiny_bert)
    return load_task(bundle_of(base, "sentiment"), base)


def served(loaded: LoadedTask, name: str = "sentiment", version: int = 1) -> ServedTask:
    return ServedTask(name, version, loaded, datetime.now(UTC), 0.1)


def test_what_was_put_is_served(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.put(served(loaded))
    registry.put(served(loaded, version=2))
    assert registry.get("sentiment").version == 2
    assert registry.get("sentiment").digest == loaded.digest


def test_a_view_never_changes(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.put(served(loaded))
    tasks, problems = registry.tasks, registry.problems
    registry.report("sentiment", TaskProblem(2, "broken"))
    registry.remove("sentiment")
    assert list(tasks) == ["sentiment"]
    assert not problems
    with pytest.raises(TypeError):
        tasks["sentiment"] = served(loaded)  # type: ignore[index]


def test_a_problem_does_not_displace_what_is_served(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.put(served(loaded))
    registry.report("sentiment", TaskProblem(2, "broken"))
    assert registry.get("sentiment").version == 1
    assert registry.problems["sentiment"] == TaskProblem(2, "broken")
    registry.clear_problem("sentiment")
    assert not registry.problems


def test_putting_a_version_ends_the_problem(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.report("sentiment", TaskProblem(1, "broken"))
    registry.put(served(loaded))
    assert not registry.problems


def test_a_task_with_nothing_but_a_problem_is_unavailable() -> None:
    registry = TaskRegistry()
    registry.report("sentiment", TaskProblem(1, "the bundle is cut off"))
    with pytest.raises(
        TaskUnavailableError, match="'sentiment' could not be loaded: version 1: the bundle is cut off"
    ):
        registry.get("sentiment")


def test_removing_forgets_task_and_problem(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.put(served(loaded))
    registry.report("sentiment", TaskProblem(2, "broken"))
    registry.remove("sentiment")
    registry.remove("sentiment")
    with pytest.raises(TaskNotFoundError):
        registry.get("sentiment")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sentment", "did you mean 'sentiment'?"),
        ("zzz", "known tasks: sentiment, t0, t1, t2, t3 and 2 more"),
        ("z" * 100, "'" + "z" * 64 + "...'"),
    ],
)
def test_an_unknown_name_is_helped(loaded: LoadedTask, name: str, message: str) -> None:
    registry = TaskRegistry()
    for known in ("sentiment", *(f"t{i}" for i in range(6))):
        registry.put(served(loaded, known))
    with pytest.raises(TaskNotFoundError) as raised:
        registry.get(name)
    assert message in str(raised.value)


def test_without_tasks_the_message_says_so() -> None:
    with pytest.raises(TaskNotFoundError, match="no task is served yet"):
        TaskRegistry().get("sentiment")


def state_of(registry: TaskRegistry) -> TaskState:
    return registry.entries["sentiment"].state


def test_a_task_without_a_version_in_service_tells_why(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    registry.expect(["sentiment"])
    assert state_of(registry) == "loading"
    with pytest.raises(TaskUnavailableError, match="'sentiment' is being loaded"):
        registry.get("sentiment")
    registry.put(served(loaded))
    registry.pin("sentiment", 1)
    registry.expect(["sentiment"])
    assert state_of(registry) == "serving"
    registry.unload("sentiment")
    assert registry.entries["sentiment"] == TaskEntry(unloaded=True)
    with pytest.raises(TaskUnloadedError, match="POST /tasks/sentiment/load puts it in service"):
        registry.get("sentiment")
    registry.put(served(loaded))
    assert state_of(registry) == "serving"


def test_a_change_copies_nothing_and_a_look_at_all_copies_once(
    loaded: LoadedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    real = server.tasks.registry._Snapshot

    def snapshot(entries: dict[str, TaskEntry]) -> object:
        copies.append(len(entries))
        return real(entries)

    monkeypatch.setattr(server.tasks.registry, "_Snapshot", snapshot)
    registry = TaskRegistry()
    for number in range(100):
        registry.put(served(loaded, f"t{number}"))
        assert registry.get(f"t{number}").name == f"t{number}"
        assert registry.entry(f"t{number}").served is not None
        assert registry.knows(f"t{number}")
    assert not copies
    assert len(registry.entries) == len(registry.tasks) == 100
    assert not registry.problems
    assert copies == [100]
    registry.unload("t0")
    assert len(registry.tasks) == 99
    assert copies == [100, 100]


def test_many_writers_lose_nothing(loaded: LoadedTask) -> None:
    registry = TaskRegistry()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: registry.put(served(loaded, f"t{number}")), range(200)))
    assert len(registry.tasks) == 200
