"""A batch from its sources to its results: what is done is skipped, what fails is listed."""

import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from okdhp_edge import __version__
from okdhp_edge.artifacts import model_store
from okdhp_edge.artifacts.card import ModelCard, read_card
from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.batch.join import RESULT_SUFFIX, count_own_frames, read_part, write_result
from okdhp_edge.batch.plan import OVERLAP_S, Segment, plan_segments
from okdhp_edge.batch.progress import watch_progress
from okdhp_edge.batch.sources import BatchSource, compute_fingerprint, read_length
from okdhp_edge.batch.storage import Storage
from okdhp_edge.batch.summary import BatchSummary
from okdhp_edge.batch.table import read_metadata
from okdhp_edge.batch.worker import (
    BatchOptions,
    SegmentResult,
    describe_part,
    describe_result,
    get_part_name,
    process_segment,
)
from okdhp_edge.errors import OutputError, SourceError
from okdhp_edge.system.executors import Executor
from okdhp_edge.system.progress import Report

FAILED = "failed.json"


def make_key(model: Path, backend: str, precision: str, choices: dict[str, Any]) -> str:
    """Hash of model and options: results of another one are not taken for done."""
    card = read_card(model_store.find_artifact(model, backend, precision))
    facts = {"files": sorted(card.files.items()), "backend": backend, "precision": precision,
             "version": __version__} | choices  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_earlier_choice(out: str, model: str) -> RuntimeChoice | None:
    """The runtime and precision of a model's results in a folder; None where there are none.

    Args:
        model: its name.
    """
    storage = Storage(out)
    for file in storage.list(""):
        if not file.endswith(RESULT_SUFFIX):
            continue
        with suppress(OSError, ValueError), storage.open(file) as opened:
            metadata = read_metadata(opened)
            if metadata.get("card", {}).get("name") == model and metadata.get("backend"):
                return RuntimeChoice(metadata["backend"], metadata["precision"])
    return None


class Batch:
    """Processes all sources that are not done.

    Args:
        card: of the model, for the results' metadata.
        segment_s: length of the segments of a video; None: it stays whole.
        command: what the person typed, likewise.
        warn: called with what failed, a line each.

    Raises:
        OutputError: the folder cannot be reached, or holds results of another model.
    """

    def __init__(
        self,
        options: BatchOptions,
        card: ModelCard,
        *,
        segment_s: float | None,
        command: str,
        warn: Callable[[str], None],
    ) -> None:
        self.summary = BatchSummary()
        self._options = replace(options, metadata=_describe(card, options, command))
        self._storage = Storage(options.out)
        self._segment_s = segment_s
        if segment_s and options.stride > 1:
            # Frames that were passed over are not counted across a cut.
            self._segment_s = None
            warn("--segment-seconds has no effect with --stride: videos are not cut")
        self._warn = warn
        self._results = self._read_results()
        self._names = {metadata["source"]: name for name, metadata in self._results.items()}
        self._uncut = 0
        self._plans: dict[str, list[Segment]] = {}
        self._frames: dict[str, int | None] = {}
        self._rates: dict[str, float] = {}
        self._missing: Counter[str] = Counter()

    def run(
        self, sources: Sequence[BatchSource], executor: Executor, report: Report
    ) -> BatchSummary:
        """Do what is not done; the same call continues a batch that was stopped.

        Raises:
            OutputError: the folder cannot be written.
        """
        with self._storage.lock():
            try:
                self._do(sources, executor, report)
            except BaseException:
                if self.summary.failed:
                    with suppress(OutputError):
                        self._write_failed()
                raise
            self._write_failed()
        return self.summary

    def _do(self, sources: Sequence[BatchSource], executor: Executor, report: Report) -> None:
        for source in sources:
            self._plan(source)
        if self._uncut:
            self._warn(f"{self._uncut} videos are not cut: they lie on other machines, or do not "
                       "say their frame rate")  # fmt: skip
        todo = [segment for plan in self._plans.values() for segment in plan]
        missing = [segment for segment in todo if not self._has_part(segment)]
        self._missing.update(segment.source.url for segment in missing)
        for url in self._plans:
            self._finish_if_whole(url)
        expected = self._expect_frames()
        with watch_progress(report, expected, self._options.progress) as progress:
            for part in executor.run(process_segment, self._options, missing):
                self._take(part.result or SegmentResult(part.task, 0, error=part.error))
                progress.update(self.summary.frames)

    def _plan(self, source: BatchSource) -> None:
        try:
            fingerprint = compute_fingerprint(source)
        except SourceError as error:
            self._fail(source.url, str(error))
            return
        source = self._rename(replace(source, fingerprint=fingerprint))
        if self._is_done(source):
            self.summary.skipped += 1
            return
        if source.name in self._results:
            what = "other images, or one of them," if source.images else "it"
            self._warn(f"{source.url}: {what} changed since its result was made; replacing it")
        length = read_length(source)
        self._uncut += bool(self._segment_s and not source.images and not length.seconds)
        self._plans[source.url] = plan_segments(
            source, length.seconds, self._segment_s, self._options.stride
        )
        self._frames[source.url] = length.frames
        self._rates[source.url] = (length.frames or 0) / length.seconds if length.seconds else 0.0

    def _expect_frames(self) -> int:
        """Of the segments that are missing; 0 where a source does not say its length."""
        expected = 0.0
        for url, plan in self._plans.items():
            frames = self._frames[url]
            if frames is None:
                return 0
            # Each cut is read twice, for a short while: half of it for either side.
            overlap = OVERLAP_S * (len(plan) - 1) * self._rates[url]
            expected += (frames + overlap) * self._missing[url] / len(plan)
        return round(expected / self._options.stride)

    def _fail(self, url: str, error: str) -> None:
        if url not in self.summary.failed:
            self.summary.failed[url] = error
            self._warn(error)

    def _read_results(self) -> dict[str, dict[str, Any]]:
        """Metadata of the results that are there, by name."""
        results = {}
        for file in self._storage.list(""):
            name, suffix = posixpath.splitext(file)
            if suffix != RESULT_SUFFIX:
                continue
            try:
                metadata = self._read_metadata(file)
            except (OSError, ValueError) as error:
                raise OutputError(
                    f"{file} in {self._storage.url} is not a result ({error})",
                    "choose another --out",
                ) from error
            if metadata.get("key") != self._options.key:
                raise OutputError(
                    f"{self._storage.url} holds results of another model or other options",
                    self._advise(metadata),
                )
            results[name] = metadata
        return results

    def _advise(self, metadata: dict[str, Any]) -> str:
        """With `auto` another runtime may have been selected than before."""
        mine = self._options
        name, own_name = metadata.get("card", {}).get("name"), mine.metadata["card"]["name"]
        if name != own_name:
            return f"they are of {name}, not {own_name}: choose another --out"
        before = metadata.get("backend"), metadata.get("precision")
        if None in before or before == (mine.backend, mine.precision):
            return "choose another --out"
        return (
            f"continue it with --backend {before[0]} --precision {before[1]}, or choose another "
            "--out"
        )

    def _rename(self, source: BatchSource) -> BatchSource:
        """A source keeps the name that its result has, whatever other sources there are now; the
        result of another source stays."""
        if source.url in self._names:
            return replace(source, name=self._names[source.url])
        there = self._results.get(source.name)
        if there is None or there["fingerprint"] == source.fingerprint:
            return source
        prefix = hashlib.sha256(source.url.encode()).hexdigest()[:8]
        return replace(source, name=f"{prefix}__{source.name}")

    def _is_done(self, source: BatchSource) -> bool:
        return self._results.get(source.name, {}).get("fingerprint") == source.fingerprint

    def _has_part(self, segment: Segment) -> bool:
        """Whether a segment of this very source is there, cut as it is now."""
        part = get_part_name(self._options, segment)
        if segment.is_whole or not self._storage.exists(part):
            return False
        try:
            found = self._read_metadata(part)
        except (OSError, ValueError):
            return False
        return describe_part(segment).items() <= found.items()

    def _take(self, result: SegmentResult) -> None:
        """Count a segment; the last one of a source that is cut makes its result."""
        source = result.segment.source
        url = source.url
        self.summary.add(result)
        for note in result.notes:
            self._warn(f"{url}: {note}")
        if result.error:
            self._fail(url, result.error)
        self._missing[url] -= 1
        self._finish_if_whole(url)

    def _finish_if_whole(self, url: str) -> None:
        """Join a source's parts to its result, and remove them; one that is not cut is whole."""
        if self._missing[url] or url in self.summary.failed:
            return
        plan = self._plans[url]
        names = [get_part_name(self._options, segment) for segment in plan]
        if not plan[0].is_whole:
            try:
                self._join(plan, names)
            except SourceError as error:
                self._fail(url, str(error))
                return
        self._storage.remove(names[0].rpartition("/")[0])  # also of another cut
        self.summary.done += 1

    def _join(self, plan: Sequence[Segment], names: Sequence[str]) -> None:
        frames = sum(
            count_own_frames(segment, self._read_metadata(name))
            for segment, name in zip(plan, names, strict=True)
        )
        parts = (
            read_part(segment, self._storage.read(name))  # one in memory at a time
            for segment, name in zip(plan, names, strict=True)
        )
        metadata = describe_result(self._options, plan[0].source, frames)
        write_result(self._storage, parts, metadata, has_ids=self._options.people == "many")

    def _read_metadata(self, name: str) -> dict[str, Any]:
        with self._storage.open(name) as opened:
            return read_metadata(opened)

    def _write_failed(self) -> None:
        """The list of sources that failed; none where none did."""
        if self.summary.failed:
            content = json.dumps(self.summary.failed, indent=1) + "\n"
            self._storage.write(FAILED, content.encode())
        else:
            self._storage.remove(FAILED)


def _describe(card: ModelCard, options: BatchOptions, command: str) -> dict[str, Any]:
    keep = {"name", "profile", "precision", "files", "terms", "training_data", "version"}
    return {"key": options.key, "command": command, "version": __version__,
            "backend": options.backend, "precision": options.precision,
            "card": card.model_dump(mode="json", include=keep)}  # fmt: skip
