"""Trial of the images: learns a task, serves it, asks, drains, in containers that may do next to nothing.

build_and_try.sh calls it and describes the variables. Needs Python alone. Prints a line for each thing tried,
and ends with 1 if one of them is not as it should be.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread

SOURCE = Path(__file__).resolve().parents[2]
RUNTIME = shlex.split(os.environ.get("RUNTIME", "podman"))
OPTIONS = shlex.split(os.environ.get("RUN_OPTIONS", ""))
SERVE = os.environ.get("TAG", "localhost/maskserve:try")
TRAIN, NEXT = f"{SERVE}-train", f"{SERVE}-next"
PORT = os.environ.get("PORT", "18000")
URL = f"http://127.0.0.1:{PORT}"
ME = f"maskserve-try-{uuid.uuid4().hex[:6]}"
HARDENED = [
    *("--read-only", "--tmpfs", "/tmp:rw,exec,mode=1777", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--memory", "1g"),
]
STRANGER = ["--user", "1000650000:0"]  # as OpenShift has it
DRAIN_SECONDS, READY_SECONDS, STOP_SECONDS, EARLY_SECONDS = 3, 300, 60, 5
RELEASE_MEGABYTES = 50
_MEGABYTES = {"": 1e-6, "k": 1e-3, "M": 1.0, "G": 1e3}
ROWS = 120
TASK = "vowels"
failures: list[str] = []


def tell(name: str, found: object, *, good: bool = True) -> None:
    """Print what was found, and remember what is wrong."""
    print(f"{name:<58}{found}{'' if good else '   WRONG'}", flush=True)
    if not good:
        failures.append(name)


def runtime(*arguments: str, check: bool = True) -> str:
    """Run a command of podman or docker and return its output; of `logs` both streams."""
    done = subprocess.run([*RUNTIME, *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{shlex.join([*RUNTIME, *arguments])}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout + (done.stderr if arguments[0] == "logs" else "")


def once(image: str, *command: str, options: Sequence[str] = HARDENED) -> str:
    """Run a command in a container of an image and return what it prints."""
    return runtime("run", "--rm", *OPTIONS, *options, image, *command)


def layers(image: str) -> dict[str, float]:
    """Return the layers of an image, from the first on, with their sizes in MB as unpacked."""
    names = json.loads(runtime("image", "inspect", image))[0]["RootFS"]["Layers"]
    rows = runtime("history", "--format", "{{.Size}}", image).splitlines()
    parts = [re.fullmatch(r"([\d.]+) ?([kMG]?)B", row) for row in reversed(rows)]
    sizes = [float(part[1]) * _MEGABYTES[part[2]] for part in parts if part and float(part[1])]
    if len(sizes) < len(names):  # layers without files
        sizes = [0.0] * (len(names) - len(sizes)) + sizes
    return dict(zip(names, sizes[-len(names) :], strict=True))


def ask(path: str, body: object = None) -> tuple[int, str]:
    """Return status and text of an answer; 0 without one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class Container:
    """A container of the image `serve`."""

    def __init__(self, volumes: Sequence[str], options: Sequence[str]) -> None:
        """Start it."""
        self.name = f"{ME}-{uuid.uuid4().hex[:4]}"
        self.begun = time.monotonic()
        variables = {
            "MASKSERVE_PORT": PORT,
            "MASKSERVE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "NUMBA_DEBUG_CACHE": "1",
        }
        given = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        place = ["-p", f"127.0.0.1:{PORT}:{PORT}"]
        runtime(
            "run", "-d", "--name", self.name, *place, *given, *OPTIONS, *HARDENED, *volumes, *options, SERVE
        )

    def until(self, path: str, body: object = None) -> float:
        """Wait until it answers 200, and return the seconds since the start."""
        while (seconds := time.monotonic() - self.begun) < READY_SECONDS:
            if ask(path, body)[0] == HTTPStatus.OK:
                return seconds
            if not self.state()["Running"]:
                break
            time.sleep(0.05)
        sys.exit(f"{path} is not answered after {seconds:.0f} s:\n{self.log()[-5000:]}")

    def state(self) -> dict[str, object]:
        """Return its state."""
        return dict(json.loads(runtime("inspect", self.name))[0]["State"])

    def log(self) -> str:
        """Return all that it printed."""
        return runtime("logs", self.name)

    def stop(self) -> tuple[object, float]:
        """Send SIGTERM; return exit code and seconds."""
        begun = time.monotonic()
        runtime("kill", "-s", "TERM", self.name)
        while self.state()["Running"] and time.monotonic() - begun < STOP_SECONDS:
            time.sleep(0.05)
        return self.state()["ExitCode"], time.monotonic() - begun


@contextmanager
def serving(volumes: Sequence[str], *options: str) -> Iterator[Container]:
    """Run a container, and remove it at the end."""
    container = Container(volumes, options)
    try:
        yield container
    finally:
        runtime("rm", "-f", container.name, check=False)


def write_rows(folder: Path) -> None:
    """Write labelled rows that a small encoder can learn: the vowel of the first word."""
    labels = {"a": "front", "o": "back"}
    for name, words in (("train", "bdfg"), ("dev", "bdfk")):
        rows = [
            {"text": f"{words[i % 4]}{vowel} {'bdfgk'[i % 5]}e {'bdfgk'[i % 3]}i", "label": label}
            for i in range(ROWS)
            for vowel, label in labels.items()
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def try_images() -> None:
    """Look at the images themselves."""
    for image in (SERVE, TRAIN):
        sizes = layers(image)
        tell(f"size of {image}, unpacked, MB", f"{sum(sizes.values()):.0f}")
        tell("  its layers, MB", " ".join(f"{size:.1f}" for size in sizes.values()))
    known = layers(SERVE)
    changed = [size for layer, size in layers(NEXT).items() if layer not in known]
    tell("a release with the same packages, MB", f"{sum(changed):.1f}", good=sum(changed) < RELEASE_MEGABYTES)
    shared = set(known) & set(layers(TRAIN))
    tell("layers that both images share, MB", f"{sum(known[layer] for layer in shared):.0f}")
    labels = json.loads(runtime("image", "inspect", SERVE))[0]["Config"]["Labels"]
    names = ("title", "version", "revision", "licenses")
    found = [labels.get(f"org.opencontainers.image.{name}") for name in names]
    tell("labels", " ".join(map(str, found)), good=all(found))
    parts = json.loads(once(SERVE, "cat", "/usr/share/sbom/maskserve.cdx.json"))["components"]
    named = {part["name"] for part in parts}
    tell("packages in the SBOM", len(parts), good={"maskserve", "torch", "s3fs"} <= named)
    tell("s3fs", once(SERVE, "python", "-c", "import s3fs; print(s3fs.__version__)").strip())
    tell("user and first process", once(SERVE, "sh", "-c", "echo $(id -u) $(cat /proc/1/comm)").strip())
    groups = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"  # version 2, 1
    asked = f"touch /x && echo writable; cat {groups}; grep CapEff /proc/self/status"
    told = once(SERVE, "sh", "-c", f"({asked}) 2>/dev/null").split()
    good = "writable" not in told and str(1 << 30) in told and int(told[-1], 16) == 0
    tell("root is read-only, memory limit, capabilities", " ".join(told), good=good)


def make_encoder(folder: Path) -> None:
    """Write an encoder with random weights, which everybody may read, with the image `train`."""
    code = "from pathlib import Path; from lab.random_models import save_random_base as save; "
    command = f"python -c \"{code} save('minilm', Path('/made'))\" && chmod a+r /made/*"
    where = [
        "-v",
        f"{SOURCE}/lab:/lab/lab:ro",
        "-v",
        f"{folder}:/made",
        "-e",
        "PYTHONPATH=/opt/maskserve:/lab",
    ]
    once(TRAIN, "sh", "-c", command, options=where)


def learn(data: Path, encoder: Path, volumes: Sequence[str]) -> None:
    """Learn a task with the image `train`."""
    begun = time.monotonic()
    where = ["-v", f"{data}:/data:ro", "-v", f"{encoder}:/base:ro", *volumes, "-v", f"{ME}-runs:/runs"]
    command = ["maskserve", "learn", "--base", "/base", "--store", "/masks", "--run-dir", "/runs/first"]
    command += ["--task", TASK, "--kind", "sequence-classification", "--epochs", "3"]
    command += ["--force"]  # publish although an encoder with random weights learns next to nothing
    command += ["--train", "/data/train.jsonl", "--dev", "/data/dev.jsonl"]
    once(TRAIN, *command, options=[*HARDENED, *where])
    tell("learns a task, seconds", f"{time.monotonic() - begun:.1f}")


def try_serving(volumes: Sequence[str]) -> None:
    """Start a server, ask it, and let it drain under load."""
    body = {"inputs": "ba be bi"}
    with serving(volumes) as container:
        tell("live after, seconds", f"{container.until('/health/live'):.1f}")
        tell("ready after, seconds", f"{container.until('/health/ready'):.1f}")
        begun = time.monotonic()
        status, text = ask(f"/predict/{TASK}", body)
        tell(
            "first answer, ms",
            f"{1000 * (time.monotonic() - begun):.0f}   {text[:80]}",
            good=status == HTTPStatus.OK,
        )
        log = container.log()
        ahead = "data loaded from" in log and "data saved to" not in log
        tell("kernels were compiled ahead", ahead, good=ahead)
        memory = [
            line for line in ask("/metrics")[1].splitlines() if line.startswith("process_resident_memory")
        ]
        tell("resident memory, MB", f"{float(memory[0].split()[1]) / 1e6:.0f}")
        healthy = runtime("healthcheck", "run", container.name, check=False) if "podman" in RUNTIME[0] else ""
        tell("health check of the image", healthy.strip() or "ok", good="unhealthy" not in healthy)
        drain(container, body)


def drain(container: Container, body: object) -> None:
    """Stop the server while clients ask."""
    answers: Counter[int] = Counter()
    over = Event()

    def client() -> None:
        while not over.is_set() and (status := ask(f"/predict/{TASK}", body)[0]):
            answers[status] += 1

    clients = [Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    time.sleep(1)
    code, seconds = container.stop()
    over.set()
    for one in clients:
        one.join()
    good = code == 0 and seconds >= DRAIN_SECONDS and set(answers) == {HTTPStatus.OK}
    tell(
        "SIGTERM under load: exit code, seconds, answers",
        f"{code}   {seconds:.1f}   {dict(answers)}",
        good=good,
    )


def try_the_rest(volumes: Sequence[str]) -> None:
    """Try a user without a name, and a signal before anything is ready."""
    with serving(volumes, *STRANGER) as container:
        tell("ready as user 1000650000, seconds", f"{container.until('/health/ready'):.1f}")
        status, _ = ask(f"/predict/{TASK}", {"inputs": "ba"})
        tell("  answers", status, good=status == HTTPStatus.OK)
    with serving(volumes) as container:
        time.sleep(1)
        code, seconds = container.stop()
        tell(
            "SIGTERM after a second: exit code, seconds",
            f"{code}   {seconds:.1f}",
            good=seconds < EARLY_SECONDS,
        )


def main() -> int:
    """Try everything; return the exit code."""
    try_images()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data").mkdir()
        (folder / "encoder").mkdir(mode=0o777)
        (folder / "encoder").chmod(0o777)
        write_rows(folder / "data")
        encoder = Path(os.environ.get("ENCODER") or folder / "encoder").resolve()
        if "ENCODER" not in os.environ:
            make_encoder(encoder)
        masks = ["-v", f"{ME}-masks:/masks"]
        try:
            learn(folder / "data", encoder, masks)
            both = ["-v", f"{encoder}:/base:ro", *masks]
            try_serving(both)
            try_the_rest(both)
        finally:
            runtime("volume", "rm", "-f", f"{ME}-masks", f"{ME}-runs", check=False)
    print(f"{len(failures)} wrong" if failures else "all as it should be")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
