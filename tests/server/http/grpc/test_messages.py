import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from server.http.grpc import messages
from server.http.grpc.methods import METHODS

FOLDER = Path(messages.__file__).parent


def test_the_compiled_messages_are_those_of_the_source(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"-I{FOLDER}"]
    subprocess.run(
        [*command, f"--descriptor_set_out={made}", str(FOLDER / "open_inference.proto")], check=True
    )
    kept = (FOLDER / "open_inference.binpb").read_bytes()
    assert FileDescriptorSet.FromString(kept) == FileDescriptorSet.FromString(made.read_bytes())


def test_every_method_is_there_once() -> None:
    assert messages.methods().keys() == METHODS.keys()


def test_messages_of_another_package_are_not_touched() -> None:
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ServerLiveResponse  # noqa: PLC0415

    ours = messages.message("ServerLiveResponse", live=True)
    assert type(ours) is not ServerLiveResponse
    assert ServerLiveResponse.FromString(ours.SerializeToString()).live
