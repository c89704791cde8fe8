"""Where `fuzz.py`, `faults.py` and `kills.py` put their counts: parts of one file."""

import json
from pathlib import Path
from typing import Any

from okdhp_edge.system.files import write_text
from okdhp_edge.system.hardware import describe_machine

RESULT = Path(__file__).parent.parent / "results" / "reliability.json"


def record(part: str, counts: dict[str, Any], path: Path = RESULT) -> None:
    """Replace one part, and note the machine it was measured on; the others stay."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    machines = content.get("machines", {}) | {part: describe_machine()}
    content |= {"machines": machines, part: counts}
    write_text(path, json.dumps(content, indent=1) + "\n")
