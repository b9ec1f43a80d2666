"""Speak with a server by Triton's gRPC client; a program of its own, see `test_grpc`.

    python triton_grpc.py ADDRESS CLIENT_KEY ADMIN_KEY TEXT

prints what the client was told, as JSON.
"""

import json
import sys
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException


def main(address: str, client_key: str, admin_key: str, text: str) -> dict[str, Any]:
    own = {"authorization": f"Bearer {client_key}"}
    admin = {"authorization": f"Bearer {admin_key}"}
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "maskserve"
        metadata = client.get_model_metadata("sentiment", headers=own, as_json=True)
        one = triton.InferInput("text", [1], "BYTES")
        one.set_data_from_numpy(np.array([text], np.object_))
        result = client.infer("sentiment", [one], model_version="1", request_id="7", headers=own)
        assert result.get_response().id == "7"
        try:
            client.infer("made-up", [one], headers=own)
        except InferenceServerException as refused:
            error = str(refused)
        client.unload_model("sentiment", headers=admin)
        ready = [client.is_model_ready("sentiment", headers=own)]
        client.load_model("sentiment", headers=admin)
        ready.append(client.is_model_ready("sentiment", headers=own))
        index = client.get_model_repository_index(headers=own)
    return {
        "metadata": metadata,
        "version": result.get_response().model_version,
        "label": result.as_numpy("label")[0].decode(),
        "scores": result.as_numpy("scores")[0].tolist(),
        "error": error,
        "unloaded": ready,
        "index": [model.name for model in index.models],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
