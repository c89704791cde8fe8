"""The lines of a labelling run under way: what a stopped run goes on from."""

import json
from pathlib import Path
from typing import Any

from okdhp_edge.errors import OutputError
from okdhp_edge.label.images import ImageItem
from okdhp_edge.system.files import wrap_write_errors
from okdhp_edge.system.reading import read_file

Record = dict[str, Any]
_MAX_BYTES = 1 << 31


class ProgressLog:
    """The lines of a run under way; the first line holds its settings.

    Raises:
        OutputError: it was begun with other settings, or cannot be written.
    """

    def __init__(self, path: Path, settings: Record) -> None:
        self.path = path
        self._settings = settings
        self.done: dict[str, Record] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        text = read_file(self.path, _MAX_BYTES).decode("utf-8", "replace")
        # What follows the last line's end was being written when the run was stopped.
        lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            header, *rows = [json.loads(line) for line in lines]
            rows_by_key = {row["key"]: row for row in rows}
            # What could not be labelled then may be repaired since.
            self.done = {key: row for key, row in rows_by_key.items() if "error" not in row}
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path} is damaged", "delete it and label again") from error
        if header != self._settings:
            raise OutputError(
                f"{self.path} was written with other settings",
                "pass the same options to resume, or delete it to start over",
            )
        with wrap_write_errors(self.path), self.path.open("r+b") as file:
            file.truncate(len("".join(line + "\n" for line in lines).encode()))

    def __enter__(self) -> "ProgressLog":
        with wrap_write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self.path.is_file()
            self._file = self.path.open("a", encoding="utf-8")
            if fresh:
                self._write(self._settings)
        return self

    def add(self, item: ImageItem, record: Record) -> None:
        """One image is done."""
        record = {"key": item.key} | record
        self._write(record)
        self.done[item.key] = record

    def _write(self, record: Record) -> None:
        with wrap_write_errors(self.path):
            self._file.write(json.dumps(record, separators=(",", ":")) + "\n")
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()
