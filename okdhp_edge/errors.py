"""User-facing errors: one line with the cause and the remedy, and an exit code."""

from typing import Self

_MAX_CAUSE_CHARS, _MAX_REMEDY_CHARS = 190, 105
_ELLIPSIS = " ... "


def to_one_line(text: str, longest: int) -> str:
    """Make text printable, on one line and at most `longest` characters: library messages and
    names and values from untrusted files may contain anything."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    if len(line) <= longest:
        return line
    tail = longest // 3
    return line[: longest - tail - len(_ELLIPSIS)] + _ELLIPSIS + line[-tail:]


def describe_first_fault(error: Exception) -> str:
    """A short description of an error: for a validation error, the first invalid key."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


class OkdhpError(Exception):
    """An expected failure: the CLI prints `cause; remedy` and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = to_one_line(cause, _MAX_CAUSE_CHARS)
        self.remedy = to_one_line(remedy, _MAX_REMEDY_CHARS)
        super().__init__(f"{self.cause}; {self.remedy}")

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        # Worker processes send theirs as pickles, which would give __init__ the message alone.
        return type(self), (self.cause, self.remedy)


class DataError(OkdhpError):
    """Annotations or images that cannot be used as they are."""


class RecipeError(OkdhpError):
    """An invalid training recipe."""


class ModelError(OkdhpError):
    """A checkpoint, ONNX file, card or INT8 artifact that cannot be trusted or found."""


class BackendError(OkdhpError):
    """A runtime or device that is missing or cannot run what was requested."""


class SourceError(OkdhpError):
    """A camera, video or image that cannot be read."""


class OutputError(OkdhpError):
    """A location that cannot be written to."""


class GateError(OkdhpError):
    """A measured quality is below what the stage guarantees (parity, accuracy drop)."""

    exit_code = 3
