"""TLS for one run: a shared key or certificates made for it, and the objects that hand them to QEMU."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ID = "migrascope-tls"
HOST = "localhost"
USER = "migrascope"
KEY_BITS = 2048
PSK_BYTES = 32
VALID = dt.timedelta(days=8)
"""Longer than any run may take (a week)."""
LEEWAY = dt.timedelta(hours=1)
PARAMETERS = {"tls-creds": ID, "tls-hostname": HOST}
"""QEMU's migration parameters; the name is that of the certificate, whatever carries the stream."""
ENDPOINTS = {"source": "client", "destination": "server"}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A run's keys, one directory a role, of the kind `psk` or `x509`; `elsewhere` those that another host has."""

    kind: str
    path: Path
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    def of(self, role: str) -> Mapping[str, Any]:
        """The arguments of `object-add` for a role (QEMU qapi/crypto.json, TlsCredsProperties)."""
        endpoint = ENDPOINTS[role]
        folder = str(self.elsewhere.get(role, self.path / role))
        common = {"qom-type": f"tls-creds-{self.kind}", "id": ID, "dir": folder, "endpoint": endpoint}
        if self.kind == "x509":
            return common | {"verify-peer": True}
        return common | ({"username": USER} if endpoint == "client" else {})


def make_credentials(kind: str, path: Path) -> Credentials:
    """Make a run's keys below an existing private directory, which goes with the run.

    RSA, since QEMU's check of key usage wants key encipherment, which no EC key has (crypto/tlscredsx509.c).
    """
    for role in ENDPOINTS:
        (path / role).mkdir(mode=0o700)
    if kind == "psk":
        key = secrets.token_hex(PSK_BYTES)
        for role in ENDPOINTS:
            _write(path / role / "keys.psk", f"{USER}:{key}\n".encode())
    else:
        _make_certificates(path)
    return Credentials(kind=kind, path=path)


def _make_certificates(path: Path) -> None:
    authority_key = _key()
    authority = _certificate(_name("migrascope's authority"), authority_key, None)
    for role, endpoint in ENDPOINTS.items():
        key = _key()
        certificate = _certificate(_name(HOST), key, (authority, authority_key), endpoint)
        _write(path / role / "ca-cert.pem", authority.public_bytes(serialization.Encoding.PEM))
        _write(path / role / f"{endpoint}-cert.pem", certificate.public_bytes(serialization.Encoding.PEM))
        _write(
            path / role / f"{endpoint}-key.pem",
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )


def _certificate(
    name: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: tuple[x509.Certificate, rsa.RSAPrivateKey] | None,
    endpoint: str = "",
) -> x509.Certificate:
    """Sign a certificate: of an authority by itself, of an endpoint by its issuer."""
    now = dt.datetime.now(dt.UTC)
    is_authority = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority=is_authority), critical=True)
    )
    if endpoint:
        purpose = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}[endpoint]
        names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_encipherment=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
