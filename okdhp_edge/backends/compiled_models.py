"""OpenVINO's compiled models in the user's cache folder: loading one takes a tenth of compiling it.

OpenVINO's own `CACHE_DIR` loads a file whose bytes have changed and computes something else; here
each file begins with the sha256 of what follows, and is compiled again where it does not fit.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from okdhp_edge.artifacts.card import ModelCard
from okdhp_edge.artifacts.model_store import get_cache_folder
from okdhp_edge.errors import OkdhpError
from okdhp_edge.system.files import write_bytes
from okdhp_edge.system.hardware import read_cpu_flags
from okdhp_edge.system.reading import read_file
from okdhp_edge.system.telemetry import block_telemetry

with block_telemetry():
    import openvino as ov

_CACHE_FOLDER = "openvino"
_MAX_BYTES = 1 << 30
_MAX_CACHED_FILES = 32
_DIGEST_BYTES = hashlib.sha256().digest_size


def compile_model(
    core: ov.Core,
    model_file: Path,
    card: ModelCard,
    batch: int | None,
    config: Mapping[str, Any],
    *,
    cache: bool = True,
) -> Any:
    """Compile a model for the CPU, or load what was compiled from the same files before.

    Args:
        card: of the model; its hashes tell models apart.
        batch: crops at once; None leaves the batch as it is in the file.
        config: the plugin's properties.
        cache: whether to look into the folder and to keep the model there.

    Raises:
        RuntimeError: OpenVINO cannot read or compile the model.
    """
    file = get_cache_folder(_CACHE_FOLDER) / f"{_make_key(card, batch, config)}.blob"
    blob = _read(file) if cache else None
    if blob is not None:
        with suppress(RuntimeError):
            return core.import_model(io.BytesIO(blob), "CPU", dict(config))
    model = core.read_model(str(model_file))
    if batch is not None and batch != card.batch:
        model.reshape([batch, card.input.height, card.input.width, 3])
    compiled = core.compile_model(model, "CPU", dict(config))
    if cache:
        with suppress(OSError, OkdhpError, RuntimeError):
            _keep(file, compiled.export_model().read())
    return compiled


def _make_key(card: ModelCard, batch: int | None, config: Mapping[str, Any]) -> str:
    facts = {
        "files": sorted(card.files.items()), "batch": batch, "version": ov.__version__,
        "config": sorted((name, str(value)) for name, value in config.items()),
        "flags": sorted(read_cpu_flags()),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(file: Path) -> bytes | None:
    """The compiled model, if it is there as it was written."""
    try:
        content = read_file(file, _MAX_BYTES)
    except (OSError, ValueError):
        return None
    digest, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def _keep(file: Path, blob: bytes) -> None:
    """Write a compiled model; of many the oldest go."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(file, hashlib.sha256(blob).digest() + blob)
    kept = sorted(file.parent.glob("*.blob"), key=lambda path: path.stat().st_mtime_ns)
    for old in kept[:-_MAX_CACHED_FILES]:
        old.unlink(missing_ok=True)
