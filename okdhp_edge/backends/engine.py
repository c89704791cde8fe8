"""TensorRT engine files: built from ONNX, and loaded only with a matching sidecar.

A serialized engine is executable code and carries no facts of its own. The sidecar next to it says
from which ONNX file, by which library and for which GPU it was built, and what its bytes hash to;
an engine without one, or with one that does not fit, is not loaded.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.errors import BackendError, OutputError
from okdhp_edge.system.files import wrap_write_errors, write_bytes
from okdhp_edge.system.progress import Report, ignore_progress

ENGINE_CACHE_FOLDER = "engines"
SIDECAR_SUFFIX = ".json"
PORTABLE = "AMPERE_PLUS"
"""A target that runs on Ampere and everything later (not on Jetson), a little slower."""
_MIN_PORTABLE_SM = 80
_JETSON_TARGETS = ("SM87", "SM101", "SM110")


class Sidecar(BaseModel):
    """What an engine file is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine_sha256: str
    onnx_sha256: str
    library: str
    """Module and version, such as `tensorrt_rtx 1.7.1.116`: engines do not outlive a release."""
    targets: tuple[str, ...]
    """GPU generations, such as SM89, or `PORTABLE`."""
    gpu: str | None = None
    """The GPU it was built on; None where it was built without one."""


@dataclass(frozen=True)
class EngineKey:
    """The properties an engine must have to be loaded here."""

    onnx_sha256: str
    library: str
    target: str
    gpu: str

    def key(self) -> str:
        """Name of the engine in the cache: another for anything that would make it wrong."""
        text = f"{self.onnx_sha256}\n{self.library}\n{self.target}\n{self.gpu}"
        return hashlib.sha256(text.encode()).hexdigest()


def runs_on(targets: Sequence[str], target: str) -> bool:
    """Whether an engine for these targets is for a GPU of this generation."""
    is_ampere_plus = int(target.removeprefix("SM")) >= _MIN_PORTABLE_SM
    portable = PORTABLE in targets and is_ampere_plus and target not in _JETSON_TARGETS
    return portable or target in targets


def describe_library(trt: Any) -> str:
    """Module and version."""
    return f"{trt.__name__} {trt.__version__}"


def build(
    trt: Any,
    onnx: bytes,
    name: str,
    targets: Sequence[str] = (),
    report: Report = ignore_progress,
) -> bytes:
    """Build an engine.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        name: of the ONNX file, for messages.
        targets: GPU generations to build for without a GPU, by TensorRT-RTX; none: the GPU here.
        report: called with the phases of the build, which may take minutes.

    Raises:
        BackendError: TensorRT cannot parse or build it; its log is quoted.
    """
    builder, network, log, _parser = parse_onnx(trt, onnx, name)
    config = builder.create_builder_config()
    _refuse_tf32(trt, config)
    if targets:
        _aim_at(trt, config, targets)
    timing = _load_timing_cache(trt, config)
    # Held here: the configuration may not.
    monitor = _make_progress_monitor(trt, report) if hasattr(trt, "IProgressMonitor") else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(
            f"TensorRT cannot build {name} ({' '.join(log[-2:])[:300]})",
            "run `okdhp-edge doctor` to check versions",
        )
    if timing is not None:
        with suppress(OutputError):  # it only makes the next build faster
            _keep(timing.serialize(), _get_timing_file(trt))
    return bytes(plan)


def _refuse_tf32(trt: Any, config: Any) -> None:
    """TF32 is on by default, but a mantissa of 10 bits is no FP32."""
    flag = getattr(getattr(trt, "BuilderFlag", None), "TF32", None)
    if flag is not None:
        config.clear_flag(flag)


class ParsedNetwork(NamedTuple):
    """An ONNX file as TensorRT's network; the parser owns its weights, the log grows on."""

    builder: Any
    network: Any
    log: list[str]
    parser: Any


def parse_onnx(trt: Any, onnx: bytes, name: str) -> ParsedNetwork:
    """Read an ONNX file.

    Raises:
        BackendError: TensorRT cannot parse it; its log is quoted.
    """
    log: list[str] = []
    logger = make_collecting_logger(trt, log)
    builder = trt.Builder(logger)
    network = builder.create_network(_get_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        errors = getattr(parser, "num_errors", 0)
        reason = str(parser.get_error(0)) if errors else " ".join(log[-2:])
        raise BackendError(
            f"TensorRT cannot parse {name} ({reason[:300]})",
            "use the int8/tensorrt or the fp32 artifact",
        )
    return ParsedNetwork(builder, network, log, parser)


def _make_progress_monitor(trt: Any, report: Report) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self._steps:
                report("engine", step + 1, self._steps[phase], phase)
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


def _aim_at(trt: Any, config: Any, targets: Sequence[str]) -> None:
    if PORTABLE in targets:
        if len(targets) > 1:
            raise BackendError(
                f"{PORTABLE} already covers several generations", f"give {PORTABLE} alone"
            )
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        return
    config.num_compute_capabilities = len(targets)
    for number, target in enumerate(targets):
        known = getattr(trt.ComputeCapability, target, None)
        if known is None:
            raise BackendError(
                f"{describe_library(trt)} cannot build for {target}",
                f"use SM75, SM80, SM86, SM89, SM120, SM121 or {PORTABLE}",
            )
        config.set_compute_capability(known, number)


def _load_timing_cache(trt: Any, config: Any) -> Any:
    """What earlier builds here have measured; TensorRT-RTX would want a GPU for it."""
    if trt.__name__ != "tensorrt" or not hasattr(config, "create_timing_cache"):
        return None
    file = _get_timing_file(trt)
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _get_timing_file(trt: Any) -> Path:
    return get_cache_folder(ENGINE_CACHE_FOLDER) / f"timing-{trt.__version__}.cache"


def write_engine(plan: bytes, path: Path, facts: Sidecar) -> None:
    """The engine and its sidecar, readable by this user alone.

    The sidecar first: one without an engine is never looked at, an engine without one is refused.
    """
    sidecar = facts.model_dump_json(indent=2) + "\n"
    _keep(sidecar.encode(), path.with_suffix(SIDECAR_SUFFIX))
    _keep(plan, path)


def _keep(content: bytes, path: Path) -> None:
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(path, content)


def read_engine(path: Path, wanted: EngineKey) -> bytes:
    """Read an engine that matches its sidecar.

    Raises:
        BackendError: no sidecar, another model, library or GPU, or bytes that have changed.
    """
    facts = _read_sidecar(path)
    plan = path.read_bytes()
    differs = {
        "was built from another model": facts.onnx_sha256 != wanted.onnx_sha256,
        f"was built by {facts.library}, not {wanted.library}": facts.library != wanted.library,
        f"was built for {', '.join(facts.targets)}, not {wanted.target}": (
            not runs_on(facts.targets, wanted.target)
        ),
        f"was built on {facts.gpu}, not {wanted.gpu}": facts.gpu not in (None, wanted.gpu),
        "has changed since it was built": hashlib.sha256(plan).hexdigest() != facts.engine_sha256,
    }
    remedy = "delete it to have one built here"
    if wanted.library.startswith("tensorrt_rtx"):  # with which `export --sm` builds
        remedy = f"rebuild it with `okdhp-edge export --sm`, or {remedy}"
    for what, true in differs.items():
        if true:
            raise BackendError(f"engine {path} {what}", remedy)
    return plan


def _read_sidecar(path: Path) -> Sidecar:
    file = path.with_suffix(SIDECAR_SUFFIX)
    try:
        return Sidecar.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BackendError(
            f"engine {path} has no sidecar to verify it, and engines can execute code",
            "build it with `okdhp-edge export --sm`, or pass --trust-engine",
        ) from None
    except (OSError, ValidationError) as error:
        raise BackendError(f"{file} is not a valid sidecar", "rebuild the engine") from error


def make_collecting_logger(trt: Any, log: list[str]) -> Any:
    """A TensorRT logger that appends errors to `log`, to be quoted when something fails."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                log.append(message)

    return Logger()


def _get_network_flags(trt: Any) -> int:
    """Network flags: TensorRT 10 needs one to keep the file's types, 11 always keeps them."""
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    wanted = getattr(flags, "STRONGLY_TYPED", None)
    return 0 if wanted is None else 1 << int(wanted)
