"""Fetch a large file over a line that may break: it goes on where it stopped, and is whole or not there.

The bytes collect in ``NAME.part``; ``NAME.part.json`` remembers which version of the file they belong to. The
file gets its name once its size and, where known, its SHA-256 are right.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from cascade_lab.engine.checkpoint import sha256, write_text
from cascade_lab.errors import InputError

CHUNK = 2**20
TIMEOUT = 60.0  # seconds without a byte
# Hugging Face answers with a redirect that carries the SHA-256 of the file.
DIGEST_HEADER = "X-Linked-ETag"


@dataclass(frozen=True)
class Fetched:
    """A file that is complete. ``known_digest`` says who vouched for the SHA-256; empty where nobody did."""

    path: Path
    sha256: str
    known_digest: str = ""


def fetch(
    address: str,
    folder: Path,
    file_name: str,
    expected: str | None = None,
    say: Callable[[str], Any] = print,
) -> Fetched:
    """Fetch ``address`` to ``folder/file_name``, or go on with it; a file that is there is only checked.

    Args:
        expected: the SHA-256 that the file must have; otherwise the one that the server states, if it does.
        say: called with a line where a part on the disk had to be thrown away.

    Raises:
        InputError: no such file, no network, a broken line, a full disk, another size or SHA-256. What was
            fetched before a broken line or a full disk stays, and the next call goes on from there.
        KeyboardInterrupt: likewise.
    """
    if Path(file_name).name != file_name or file_name in ("", ".", ".."):
        raise InputError(f"file name {file_name!r}: would leave {folder}; name a plain file")
    path, part = folder / file_name, folder / f"{file_name}.part"
    if path.exists():
        return _checked(path, path, expected, "you")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        redirects = _Redirects()
        response = _open(address, part, redirects)
        if response is not None:
            with response:
                begin, total = _extent(response, address)
                if begin == 0:
                    _begin(response, part, address, say)
                _receive(response, part, begin, total, address)
    except (OSError, http.client.HTTPException) as error:
        raise _explained(error, address, part) from error
    stated = expected or redirects.digest
    fetched = _checked(part, path, stated, "you" if expected else "the server")
    os.replace(part, path)
    _about(part).unlink(missing_ok=True)
    return fetched


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, never from https to http or to a file; remember the digest that one may carry."""

    digest: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(
            ("https://", "http://" if req.full_url.startswith("http://") else "https://")
        ):
            raise InputError(
                f"{req.full_url}: sends elsewhere ({newurl[:80]}), which is not safe; not followed"
            )
        stated = (headers.get(DIGEST_HEADER) or "").strip('"').lower()
        self.digest = stated if re.fullmatch("[0-9a-f]{64}", stated) else self.digest
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(address: str, part: Path, redirects: _Redirects) -> Any:
    """Ask for what is missing, on condition that the file is still the one that ``part`` is a part of.

    Returns None where nothing is missing.
    """
    if not address.startswith(("http://", "https://")):
        raise InputError(f"{address}: not an address; it has to begin with https:// or http://")
    request = urllib.request.Request(
        address, headers={"User-Agent": "cascade-lab", "Accept-Encoding": "identity"}
    )
    have, version = part.stat().st_size if part.exists() else 0, _remembered(part, address)
    if have and version:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version)
    opener = urllib.request.build_opener(redirects)
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return None
        part.unlink()  # longer than the file: begin again
        return _open(address, part, redirects)


def _extent(response: Any, address: str) -> tuple[int, int | None]:
    """Return the position of the first byte that comes, and the size of the whole file where it is stated."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not match:
            raise InputError(f"{address}: the server sends a part without saying which; try again later")
        return int(match[1]), int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def _begin(response: Any, part: Path, address: str, say: Callable[[str], Any]) -> None:
    """Forget what is there, and note of which version of the file the bytes are that come now."""
    version = _version(response.headers)
    if part.exists() and part.stat().st_size:
        why = "the server sends whole files only"
        if version != _remembered(part, address):
            why = "the file at the server is another one by now"
        say(f"{part}: cannot be continued, {why}; starting again")
        part.unlink()
    write_text(_about(part), json.dumps({"address": address, "version": version}))


def _receive(response: Any, part: Path, begin: int, total: int | None, address: str) -> None:
    """Append the bytes that come, and show how far it is."""
    have = part.stat().st_size if part.exists() else 0
    if begin != have:
        raise InputError(
            f"{address}: the server sends bytes from {begin:,}, {have:,} are here; delete {part}"
        )
    if total is not None and total - begin > shutil.disk_usage(part.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    bar: Any = tqdm(total=total, initial=begin, unit="B", unit_scale=True, desc=part.stem, disable=None)
    with bar, open(part, "r+b" if begin else "wb") as file:
        file.seek(begin)
        try:
            while chunk := response.read1(CHUNK):  # what has come, be it little
                file.write(chunk)
                file.flush()  # so that a kill loses nothing of it
                bar.update(len(chunk))
        except http.client.IncompleteRead as error:
            file.write(error.partial)
        finally:
            file.flush()
            os.fsync(file.fileno())
    have = part.stat().st_size
    if total is not None and have < total:
        raise InputError(
            f"{address}: the line broke after {have:,} of {total:,} bytes; they are kept, call it again"
        )
    if total is not None and have > total:
        part.unlink()
        raise InputError(f"{address}: sent more than the {total:,} bytes that it stated; call it again")


def _checked(found: Path, path: Path, expected: str | None, who: str) -> Fetched:
    digest = sha256(found)
    if expected is None:
        return Fetched(path, digest)
    if digest != expected.lower():
        remedy = "delete it and fetch it again"
        if found != path:
            found.unlink()
            _about(found).unlink(missing_ok=True)
            remedy = "it was thrown away, fetch it again"
        raise InputError(f"{path}: its SHA-256 is {digest}, {who} stated {expected.lower()}; {remedy}")
    return Fetched(path, digest, who)


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _version(headers: Message) -> str | None:
    """Return what tells one version of a file from another; a weak ETag may not be asked for in parts."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _remembered(part: Path, address: str) -> str | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        about = json.loads(_about(part).read_text(encoding="utf-8"))
        return about["version"] if about.get("address") == address else None
    return None


def _explained(error: OSError | http.client.HTTPException, address: str, part: Path) -> InputError:
    have = part.stat().st_size if part.exists() else 0
    kept = f"; {have:,} bytes are kept, call it again to go on" if have else ""
    if isinstance(error, urllib.error.HTTPError):
        hint = "check the name" if error.code == http.HTTPStatus.NOT_FOUND else f"try again later{kept}"
        return InputError(f"{address}: the server answers {error.code} {error.reason}; {hint}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(part.parent).free
        return InputError(f"{part}: disk full, {free:,} bytes free; make room or name another folder{kept}")
    network = urllib.error.URLError | TimeoutError | ConnectionError | http.client.HTTPException
    if isinstance(error, network) or not isinstance(error, OSError):
        reason = getattr(error, "reason", None) or error
        return InputError(f"{address}: cannot be reached ({reason}); is there a network?{kept}")
    return InputError(f"{part}: cannot be written ({error.strerror}); name another folder")
