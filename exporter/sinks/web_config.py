"""TLS and basic auth of /metrics, by a file in the form of Prometheus' exporter-toolkit."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import ssl
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from workload.errors import BadValueError

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
"""The toolkit's two other types ask for a certificate without verifying it, which OpenSSL does not offer to Python."""

KEYS = ("tls_server_config", "basic_auth_users")
TLS_KEYS = ("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version")

MOST_REMEMBERED = 100
NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(10)).decode()
"""What an unknown user's password is held against, so that its refusal takes as long as a wrong password's."""


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """What the file says (exporter-toolkit, docs/web-configuration.md).

    `users` maps names to bcrypt hashes (none: everybody may come); `tls` is None for plain HTTP.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None


class Gate:
    """Lets requests in by the file as it stands, which is read again once it or a certificate has changed.

    A file that no longer reads right leaves the last good one in force. Used from the threads of connections.

    Raises:
        BadValueError: the file cannot be used; the message names it and the key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamps: dict[Path, int] = {}
        self._config = WebConfig()
        self._salt = secrets.token_bytes(16)
        self._remembered: OrderedDict[bytes, bool] = OrderedDict()
        self._read()

    @property
    def config(self) -> WebConfig:
        """The file as it stands."""
        with self._lock:
            if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
                try:
                    self._read()
                except BadValueError:
                    self._stamps = {path: _stamp(path) for path in self._stamps}
            return self._config

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this Authorization header may pass.

        bcrypt takes some 50 ms of CPU by design; what was asked before is remembered by a salted digest.
        """
        users = self.config.users
        if not users:
            return True
        user, password = _credentials(authorization)
        hashed = users.get(user, NOBODY)
        digest = hashlib.sha256(b"\0".join((self._salt, user.encode(), hashed.encode(), password))).digest()
        with self._lock:
            known = self._remembered.get(digest)
        if known is None:
            known = _matches(password, hashed) and user in users
            with self._lock:
                self._remembered[digest] = known
                while len(self._remembered) > MOST_REMEMBERED:
                    self._remembered.popitem(last=False)
        return known

    def _read(self) -> None:
        self._stamps = {self._path: _stamp(self._path)}
        text = _parsed(self._path)
        tls = text.get("tls_server_config")
        named = [tls.get(key) for key in ("cert_file", "key_file", "client_ca_file")] if isinstance(tls, dict) else []
        files = [self._path.parent / name for name in named if isinstance(name, str)]
        self._config = WebConfig(users=_users(self._path, text), tls=_context(self._path, tls) if tls else None)
        self._stamps |= {path: _stamp(path) for path in files}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise BadValueError(f"web config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadValueError(f"web config {path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(text, dict):
        raise BadValueError(f"web config {path}: want a mapping with {' and '.join(KEYS)}")
    _only(path, "", text, KEYS)
    return text


def _users(path: Path, text: Mapping[str, Any]) -> dict[str, str]:
    users = text.get("basic_auth_users") or {}
    if not isinstance(users, dict):
        raise BadValueError(f"web config {path}: basic_auth_users: want user: bcrypt hash")
    for user, hashed in users.items():
        try:
            bcrypt.checkpw(b"", str(hashed).encode())
        except ValueError as error:
            raise BadValueError(
                f"web config {path}: basic_auth_users.{user}: is no bcrypt hash; `htpasswd -nBC 10 {user}` makes one"
            ) from error
    return {str(user): str(hashed) for user, hashed in users.items()}


def _context(path: Path, tls: object) -> ssl.SSLContext:
    where = f"web config {path}: tls_server_config"
    if not isinstance(tls, dict):
        raise BadValueError(f"{where}: want cert_file and key_file")
    _only(path, "tls_server_config.", tls, TLS_KEYS)
    for key in ("cert_file", "key_file"):
        if not isinstance(tls.get(key), str):
            raise BadValueError(f"{where}.{key}: is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _chosen(where, "min_version", tls.get("min_version", "TLS12"), VERSIONS)
    context.maximum_version = _chosen(where, "max_version", tls.get("max_version", "TLS13"), VERSIONS)
    kind = tls.get("client_auth_type", "NoClientCert")
    context.verify_mode = _chosen(where, "client_auth_type", kind, CLIENT_AUTH)
    try:
        context.load_cert_chain(path.parent / tls["cert_file"], path.parent / tls["key_file"])
    except (OSError, ssl.SSLError) as error:
        raise BadValueError(f"{where}: cert_file and key_file cannot be used: {error.strerror or error}") from error
    authority = tls.get("client_ca_file")
    if (authority is None) != (context.verify_mode == ssl.CERT_NONE):
        raise BadValueError(f"{where}: client_ca_file and a client_auth_type that verifies go together")
    if authority is not None:
        try:
            context.load_verify_locations(path.parent / str(authority))
        except (OSError, ssl.SSLError) as error:
            raise BadValueError(f"{where}.client_ca_file: {error.strerror or error}") from error
    return context


def _chosen(where: str, key: str, word: object, table: Mapping[str, Any]) -> Any:
    if word not in table:
        raise BadValueError(f"{where}.{key}={word}: want one of {', '.join(table)}")
    return table[str(word)]


def _only(path: Path, above: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            raise BadValueError(f"web config {path}: {above}{key} is not known here; known: {', '.join(known)}")


def _credentials(authorization: str | None) -> tuple[str, bytes]:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        user, _, password = b64decode(encoded, validate=True).partition(b":")
        return user.decode(), password
    except (Base64Error, UnicodeDecodeError, ValueError):
        return "", b""


def _matches(password: bytes, hashed: str) -> bool:
    """Bcrypt looks at 72 bytes of a password and refuses longer ones."""
    if len(password) > 72 or b"\0" in password:
        return False
    return hmac.compare_digest(bcrypt.hashpw(password, hashed.encode()), hashed.encode())


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
