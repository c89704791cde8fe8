"""Redact URLs to scheme, host and path, without possible secrets."""

import re

_ADDRESS_PATTERN = re.compile(r"(?i)([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
# Cameras take their password as a path, too: /user=admin_password=PW_channel=1.
_ASSIGNMENT_PATTERN = re.compile(r"[=;&]")
_MASK = "***"


def redact_address(text: str) -> str:
    """An address without user, password, parameters and fragment, for names, reports and errors.

    Passwords may hold `@` and `/` as they are, so all that stands before the last `@` goes. Of the
    path all goes from the first part on that assigns something. What is not an address, such as the
    name of a file, stays as it is, but for `user:password@`.
    """
    match = _ADDRESS_PATTERN.fullmatch(text)
    if match is None:
        before, at, after = text.rpartition("@")
        return f"{_MASK}@{after}" if at and ":" in before else text
    scheme, rest = match.groups()
    rest = rest.rpartition("@")[2]
    bare = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, *parts = bare.split("/")
    shown = [_ASSIGNMENT_PATTERN.split(host, maxsplit=1)[0]]
    for part in parts:
        if _ASSIGNMENT_PATTERN.search(part):
            shown.append(_MASK)
            break
        shown.append(part)
    return f"{scheme}://{'/'.join(shown)}"
