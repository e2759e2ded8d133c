"""A stand-in for TensorFlow Serving, which pip cannot install.

It has the predict method of its REST API (https://www.tensorflow.org/tfx/serving/api_rest), as far
as tests need it.
"""

import base64
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

PATH = "/v1/models/encoder:predict"


@contextlib.contextmanager
def serve(signatures) -> Iterator[str]:
    """Serves the signatures of a loaded SavedModel meanwhile; yields http://HOST:PORT."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                assert self.path == PATH
                status, response = 200, _predict(signatures, json.loads(content))
            except tf.errors.InvalidArgumentError as error:
                status, response = 400, {"error": error.message}
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(response).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _predict(signatures, request: dict) -> dict:
    """Answers a request in the row format ("instances") or the columnar format ("inputs")."""
    signature = signatures[request.get("signature_name", "serving_default")]
    [(name, spec)] = signature.structured_input_signature[1].items()
    by_row = "instances" in request
    values = request["instances" if by_row else "inputs"]
    if by_row:  # a row may leave out the name of the only input
        named = isinstance(values[0], dict) and set(values[0]) == {name}
        values = [row[name] for row in values] if named else values
    elif isinstance(values, dict) and set(values) == {name}:
        values = values[name]
    tensor = tf.constant(_from_base64(values), spec.dtype)
    outputs = {
        key: _to_json(key, value.numpy()) for key, value in signature(**{name: tensor}).items()
    }
    if not by_row:
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return {"predictions": rows if len(outputs) > 1 else [next(iter(r.values())) for r in rows]}


def _from_base64(value):
    """{"b64": text} -> bytes, at any depth."""
    if isinstance(value, dict):
        assert set(value) == {"b64"}
        return base64.b64decode(value["b64"])
    return [_from_base64(item) for item in value] if isinstance(value, list) else value


def _to_json(name: str, array: np.ndarray):
    """Strings are base64 only if the name of the output ends in _bytes."""
    assert not name.endswith("_bytes")
    return np.vectorize(bytes.decode)(array).tolist() if array.dtype == object else array.tolist()
