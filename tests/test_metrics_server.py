"""The HTTP face of the exporter: TLS, passwords, certificates, clients that do not behave, who comes how often."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import ipaddress
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from exporter.selfmetrics import SelfMetrics
from exporter.sinks import http
from exporter.sinks.exposition import expose
from exporter.sinks.http import Listener, MetricsServer
from exporter.sinks.prometheus import PrometheusSink
from exporter.sinks.scrapes import Scrapes
from exporter.sinks.web_config import Gate
from tests.servers import running_prometheus
from workload.errors import BadValueError

HASHED = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key in files, and itself as an authority."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str) -> Certificate:
    """Sign a certificate for 127.0.0.1 by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    made.certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@dataclass
class Served:
    """A server with what it counts."""

    server: MetricsServer
    own: SelfMetrics
    scrapes: Scrapes
    trust: ssl.SSLContext | None = None

    def get(self, path: str = "/metrics", user: str | None = None, **headers: str) -> tuple[int, bytes]:
        """Ask for a path; a refusal is its status."""
        scheme = "https" if self.trust else "http"
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.server.port}{path}", headers=headers)
        if user is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.trust) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read()


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server; `gate` guards it."""
    open_ones: list[MetricsServer] = []

    def start(gate: Gate | None = None, trust: ssl.SSLContext | None = None) -> Served:
        own, scrapes, registry = SelfMetrics(), Scrapes(), CollectorRegistry()
        registry.register(PrometheusSink(own, scrapes.linger_seconds))
        open_ones.append(MetricsServer(registry, Listener(gate=gate), scrapes, own))
        return Served(open_ones[-1], own, scrapes, trust)

    yield start
    for server in open_ones:
        server.close()


def web_config(folder: Path, **keys: object) -> Path:
    path = folder / "web.yml"
    path.write_text(yaml.safe_dump(keys))
    return path


def secured(folder: Path, **more: object) -> tuple[Path, Certificate]:
    """A web config with TLS, its certificate's paths relative to the file as the toolkit has them."""
    made = make_certificate(folder, "server")
    tls = {"cert_file": made.certificate.name, "key_file": made.key.name}
    further = more.pop("tls", {})
    assert isinstance(further, dict)
    return web_config(folder, tls_server_config=tls | further, **more), made


def test_a_password_is_asked_for_and_its_bcrypt_is_worked_out_once(serve: Serve, tmp_path: Path) -> None:
    served = serve(Gate(web_config(tmp_path, basic_auth_users={"prometheus": HASHED})))
    for path in ("/metrics", "/"):
        assert served.get(path)[0] == 401
        assert served.get(path, user="prometheus:wrong")[0] == 401
        assert served.get(path, user="other:secret")[0] == 401
        assert served.get(path, user="prometheus:secret")[0] == 200
    assert served.get(Authorization="Basic %%%")[0] == 401
    assert served.get(Authorization="Bearer secret")[0] == 401
    assert served.own.http_refused.values[()] == 8.0
    assert "http_refused_total 8.0" in served.get(user="prometheus:secret")[1].decode()


def test_tls_is_spoken_and_a_client_in_the_middle_of_its_handshake_blocks_nobody(serve: Serve, tmp_path: Path) -> None:
    path, made = secured(tmp_path)
    served = serve(Gate(path), ssl.create_default_context(cafile=str(made.certificate)))
    silent = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(20)]
    try:
        silent[0].sendall(b"\x16\x03\x01")
        silent[1].sendall(b"GET / HTTP/1.0\r\n\r\n")
        began = time.monotonic()
        assert served.get()[0] == 200
        assert time.monotonic() - began < http.SILENT_SECONDS / 2
    finally:
        for client in silent:
            client.close()


def test_a_client_must_show_a_certificate_where_that_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    theirs = make_certificate(tmp_path, "client")
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": theirs.certificate.name}
    path, made = secured(tmp_path, tls=tls)
    gate = Gate(path)
    trust = ssl.create_default_context(cafile=str(made.certificate))
    with pytest.raises((urllib.error.URLError, OSError)):
        serve(gate, trust).get()
    trust.load_cert_chain(theirs.certificate, theirs.key)
    assert serve(gate, trust).get()[0] == 200


def test_a_changed_file_counts_from_the_next_request_on_and_a_broken_one_leaves_the_last_good_in_force(
    serve: Serve, tmp_path: Path
) -> None:
    path = web_config(tmp_path, basic_auth_users={"one": HASHED})
    served = serve(Gate(path))
    assert served.get(user="one:secret")[0] == 200
    later = time.time_ns()
    web_config(tmp_path, basic_auth_users={"two": HASHED})
    os.utime(path, ns=(later + 10**9, later + 10**9))
    assert served.get(user="one:secret")[0] == 401
    assert served.get(user="two:secret")[0] == 200
    path.write_text("basic_auth_users: [")
    os.utime(path, ns=(later + 2 * 10**9, later + 2 * 10**9))
    assert served.get(user="two:secret")[0] == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("basic_auth_users: {a: plain}", "basic_auth_users.a: is no bcrypt hash"),
        ("tls_server_config: {key_file: k}", "tls_server_config.cert_file: is missing"),
        ("tls_server_config: {cert_file: c, key_file: k}", "cert_file and key_file cannot be used: No such file"),
        ("tls_server_config: {cert_file: c, key_file: k, min_version: TLS10}", "min_version=TLS10: want one of TLS12"),
        ("tls_server_config: {certfile: c}", "tls_server_config.certfile is not known here"),
        ("http_server_config: {http2: true}", "http_server_config is not known here"),
        ("[1, 2]", "want a mapping"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_web_config_that_cannot_be_used_is_one_line_that_names_the_key(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(BadValueError, match=r"^web config .*web\.yml: ") as caught:
        Gate(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_client_that_drips_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTION_SECONDS", 0.5)
    served = serve()
    with socket.create_connection(("127.0.0.1", served.server.port)) as dripping:
        deadline = time.monotonic() + 20
        while drip(dripping):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert served.get()[0] == 200


def drip(client: socket.socket) -> bool:
    """Send one byte; False once the server has ended the connection."""
    try:
        client.sendall(b"G")
        return client.recv(1, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_more_connections_than_it_takes_are_refused_until_one_ends(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 2)
    served = serve()
    idle = [socket.create_connection(("127.0.0.1", served.server.port), timeout=20) for _ in range(3)]
    assert idle[2].recv(1) == b""
    for client in idle:
        client.close()
    deadline = time.monotonic() + 20
    while not answers(served):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(served: Served) -> bool:
    try:
        return served.get()[0] == 200
    except OSError:
        return False


def test_text_and_open_metrics_are_served_as_the_client_asks_and_compressed_if_it_likes(serve: Serve) -> None:
    served = serve()
    assert b"# EOF" not in served.get()[1]
    assert served.get(Accept="application/openmetrics-text; version=1.0.0")[1].endswith(b"# EOF\n")
    assert b"migrascope_scrapes_total" in gzip.decompress(served.get(**{"Accept-Encoding": "gzip"})[1])
    chosen = served.get("/metrics?name[]=migrascope_scrapes_total")[1].decode().splitlines()
    assert [line.split()[0] for line in chosen if line[0] != "#"] == ["migrascope_scrapes_total"]


@pytest.mark.parametrize(("accept", "answered"), [
    ("", "text/plain; version=0.0.4; charset=utf-8"),
    ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
    ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
     "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
])  # fmt: skip
def test_the_content_type_is_one_that_the_client_asked_for(accept: str, answered: str) -> None:
    found = expose(CollectorRegistry(), accept=accept, accept_encoding="")
    assert found.headers == [("Content-Type", answered)]


@pytest.mark.server
def test_a_real_prometheus_scrapes_over_tls_with_its_password(
    serve: Serve, tmp_path: Path, prometheus_binary: Path
) -> None:
    path, made = secured(tmp_path, basic_auth_users={"prometheus": HASHED})
    served = serve(Gate(path), ssl.create_default_context(cafile=str(made.certificate)))
    access = {
        "scheme": "https",
        "tls_config": {"ca_file": str(made.certificate)},
        "basic_auth": {"username": "prometheus", "password": "secret"},
    }
    targets = [f"127.0.0.1:{served.server.port}"]
    with running_prometheus(prometheus_binary, tmp_path / "p", targets=targets, access=access) as prometheus:
        deadline = time.monotonic() + 20
        while not prometheus.query("migrascope_scrapes_total > 2"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [row["value"][1] for row in prometheus.query("up")] == ["1"]
    assert served.own.http_refused.values[()] == 0.0
    gap = served.scrapes.longest_gap_seconds()
    assert gap is not None
    assert served.scrapes.linger_seconds() == pytest.approx(max(10.0, 2 * gap))


@given(st.lists(st.floats(0.05, 300), min_size=1, max_size=40))
def test_final_figures_linger_twice_the_longest_recent_gap_within_bounds(gaps: list[float]) -> None:
    now = 0.0
    scrapes = Scrapes(clock=lambda: now)
    assert scrapes.linger_seconds() == 30.0
    scrapes.note("a")
    for gap in gaps:
        now += gap
        scrapes.note("a")
        scrapes.note("b")
    recent = gaps[-20:]
    assert scrapes.linger_seconds() == pytest.approx(min(max(2 * max(recent), 10.0), 120.0))


def test_scrapers_of_two_paces_are_told_apart_and_who_stays_away_is_forgotten() -> None:
    now = 0.0
    scrapes = Scrapes(clock=lambda: now)
    for second in range(60):
        now = float(second)
        scrapes.note("quick")
        if second % 25 == 0:
            scrapes.note("slow")
    assert scrapes.longest_gap_seconds() == 25.0
    for second in range(60, 700):
        now = float(second)
        scrapes.note("quick")
    assert scrapes.longest_gap_seconds() == 1.0
    for number in range(1000):
        scrapes.note(f"client {number}")
    assert len(scrapes._last) <= 65
