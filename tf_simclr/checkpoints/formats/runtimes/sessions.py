"""Runs ONNX and TFLite models by ONNX Runtime and LiteRT, and tries unknown ones in a process.

Both runtimes are programs in C++ that parse a file of somebody else. `try_out` therefore runs the
model once in a process of its own, with a limit of memory and time, before this process opens it.
That process imports only this module, and no TensorFlow, so it takes a second.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_simclr.checkpoints.formats.optional import require
from tf_simclr.errors import ConfigError, one_line

INPUT = "images"
ENDPOINTS = ("final_avg_pool", "proj_head_output", "logits_sup")
LITERT = "ai_edge_litert.interpreter"
NUM_TRIED = 2  # images, so that a fixed batch size of 1 shows
SECONDS = 600
_GIB = 2**30
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tf_simclr.checkpoints.formats.runtimes import sessions; sessions.child(*sys.argv[2:])"
)


class Unusable(ValueError):
    """Says why a model cannot be used."""


class Session(NamedTuple):
    """A model that a runtime has loaded.

    Attributes:
      side: side of its images in pixels; None if it takes images of any size.
      run: function from images, float32 (n, s, s, 3), to {endpoint: float32 (n, width)}.
    """

    side: int | None
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


def onnx_session(content: bytes) -> Session:
    """Loads an ONNX model. Its caller has checked that it reads no other file.

    Raises:
      Unusable: its input is no batch of images, or it lacks endpoints.
      Exception: ONNX Runtime cannot load it.
    """
    onnxruntime = require("onnxruntime", reason="running an ONNX model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors become exceptions
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    # Dimensions of any size are names or None.
    shape = [d if isinstance(d, int) else -1 for d in inputs[0].shape] if inputs else []
    side = _side([i.name for i in inputs], shape, inputs[0].type if inputs else "")
    endpoints = _endpoints([output.name for output in session.get_outputs()])

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(endpoints, session.run(endpoints, {INPUT: images}), strict=True))

    return Session(side, run)


def tflite_session(content: bytes) -> Session:
    """Loads a TFLite model by LiteRT, or by TensorFlow if LiteRT is missing.

    Raises:
      Unusable: its input is no batch of images, or it lacks endpoints.
      Exception: the runtime cannot load it.
    """
    interpreter = _interpreter(content)
    signatures = list(interpreter.get_signature_list())
    if len(signatures) != 1:
        raise Unusable(f"it has {len(signatures)} signatures, not 1")
    runner = interpreter.get_signature_runner(signatures[0])
    inputs = runner.get_input_details()
    details: dict[str, Any] = next(iter(inputs.values()), {})
    shape = [int(d) for d in details.get("shape_signature", ())]
    dtype = np.dtype(details["dtype"]).name if details else ""
    side = _side(list(inputs), shape, f"tensor({dtype.replace('float32', 'float')})")
    endpoints = _endpoints(list(runner.get_output_details()))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = runner(**{INPUT: images})
        return {name: np.asarray(outputs[name]) for name in endpoints}

    return Session(side, run)


def _interpreter(content: bytes) -> Any:
    """Makes an interpreter with XNNPACK, or without it if XNNPACK refuses the model.

    It refuses int8 models with a layer that is zero for all representative images, because the step
    between two values of that layer is too small.
    """
    interpreter_class, resolvers = litert()
    arguments = {"model_content": content, "num_threads": os.cpu_count()}
    try:
        interpreter = interpreter_class(**arguments)
        interpreter.allocate_tensors()
    except RuntimeError:
        resolver = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = interpreter_class(**arguments, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    return interpreter


def litert(path: str = "a TFLite model") -> tuple[Any, Any]:
    """Returns the classes Interpreter and OpResolverType of LiteRT, or of TensorFlow without it.

    Raises:
      ConfigError: both are missing.
    """
    try:
        module = require(LITERT, reason=f"running {path!r}")
        return module.Interpreter, module.OpResolverType
    except ConfigError:
        try:
            from tensorflow import lite

            return lite.Interpreter, lite.experimental.OpResolverType
        except (ImportError, AttributeError):
            pass
        raise


def _side(names: list[str], shape: list[int], dtype: str) -> int | None:
    """Checks the inputs of a model, and returns the side of its images.

    Raises:
      Unusable: the only input is not `images`, float32 (n, s, s, 3) for any n.
    """
    expected = f"it must take {INPUT!r}, float32 (n, s, s, 3) for any n, but takes"
    if names != [INPUT]:
        raise Unusable(f"{expected} {', '.join(map(repr, names[:3])) or 'nothing'}")
    is_batch = len(shape) == 4 and shape[0] < 0 and shape[1] == shape[2] != 0 and shape[3] == 3
    if dtype != "tensor(float)" or not is_batch:
        dimensions = ", ".join("any" if d < 0 else str(d) for d in shape)
        raise Unusable(f"{expected} {dtype} ({dimensions})")
    return shape[1] if shape[1] > 0 else None


def _endpoints(names: Sequence[str]) -> list[str]:
    endpoints = [name for name in ENDPOINTS if name in names]
    if ENDPOINTS[0] not in endpoints:
        raise Unusable(
            f"it has no output {ENDPOINTS[0]!r}; its outputs are {', '.join(map(repr, names[:3]))}"
        )
    return endpoints


SESSIONS = {"onnx": onnx_session, "tflite": tflite_session}


def try_out(kind: str, content: bytes, image_size: int) -> dict[str, int]:
    """Runs a model once, in a process of its own.

    Args:
      kind: a key of SESSIONS.
      content: the bytes of the model.
      image_size: side of the images in pixels, if the model takes images of any size.

    Returns:
      {endpoint: width}.

    Raises:
      ConfigError: the runtime is not installed.
      Unusable: the model cannot be loaded or run, or is not one of ours.
    """
    path = json.dumps([entry for entry in sys.path if entry])
    command = [sys.executable, "-I", "-c", _CHILD, path, kind, str(image_size)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Unusable(f"it did not finish within {SECONDS} seconds") from None
    try:
        # Runtimes print to the standard output, too.
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise Unusable(f"its runtime crashed (code {done.returncode})") from None
    if "missing" in answer:
        raise ConfigError(answer["missing"])
    if "unusable" in answer:
        raise Unusable(answer["unusable"])
    return answer["widths"]


def child(kind: str, image_size: str) -> None:
    """Runs the model on the standard input, and prints what `try_out` reads, as JSON."""
    content = sys.stdin.buffer.read()
    _limit_memory(8 * _GIB + 8 * len(content))
    try:
        answer: dict[str, Any] = {"widths": _widths(SESSIONS[kind](content), int(image_size))}
    except ConfigError as error:
        answer = {"missing": str(error)}
    except Exception as error:  # the runtimes raise exceptions of many types
        answer = {"unusable": one_line(error)}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # a damaged model may crash while it is freed


def _limit_memory(num_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _widths(session: Session, image_size: int) -> dict[str, int]:
    """Runs a model, and returns {endpoint: width}.

    Raises:
      Unusable: an endpoint is not float32 (n, width).
      Exception: the model cannot be run.
    """
    side = session.side or image_size
    outputs = session.run(np.zeros((NUM_TRIED, side, side, 3), np.float32))
    for name, value in outputs.items():
        if value.dtype != np.float32 or value.ndim != 2 or len(value) != NUM_TRIED:
            raise Unusable(
                f"its output {name} must be float32 (n, width), and is {value.dtype} {value.shape} "
                f"for n = {NUM_TRIED}"
            )
    return {name: value.shape[1] for name, value in outputs.items()}
