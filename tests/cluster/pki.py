"""The certificates and kubeconfigs of a test cluster, made with OpenSSL."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path

SERVER = "10.88.0.1"
"""Address of the control plane."""
URL = f"https://{SERVER}:6443"
SERVICE = "10.96.0.1"
"""Address of the service `kubernetes`, which pods use."""
NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
DAYS = "30"


def make(folder: Path, nodes: Mapping[str, str]) -> None:
    """Make the certificate authority, a certificate of each program, and a kubeconfig of each client.

    Parameters
    ----------
    folder : Path
        A new folder for the files.
    nodes : mapping of str to str
        Address of each node, by name.
    """
    folder.mkdir(parents=True)
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    _openssl(
        folder,
        *("req", "-x509", *CURVE, "-keyout", "ca.key", "-out", "ca.crt", "-days", DAYS),
        *("-subj", "/CN=kubernetes-ca", "-addext", usage),
    )
    _openssl(folder, "genrsa", "-out", "sa.key", "2048")
    _openssl(folder, "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    names = [*(f"DNS:{name}" for name in NAMES), *(f"IP:{ip}" for ip in ("127.0.0.1", SERVER, SERVICE))]
    _certificate(folder, "apiserver", "/CN=kube-apiserver", ",".join(names))
    _certificate(folder, "kubelet-client", "/O=system:masters/CN=kubelet-client")
    _certificate(folder, "front-proxy-client", "/CN=front-proxy-client")
    clients = {
        "admin": "/O=system:masters/CN=admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "proxy": "/CN=system:kube-proxy",
    }
    for name, subject in clients.items():
        _certificate(folder, name, subject)
        _kubeconfig(folder, name)
    for name, address in nodes.items():
        _certificate(folder, name, f"/O=system:nodes/CN=system:node:{name}", f"DNS:{name},IP:{address}")
        _kubeconfig(folder, name)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _certificate(folder: Path, name: str, subject: str, alternatives: str = "") -> None:
    _openssl(folder, "req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
    lines = ["extendedKeyUsage=serverAuth,clientAuth", *([f"subjectAltName={alternatives}"] if alternatives else [])]
    (folder / f"{name}.ext").write_text("\n".join(lines) + "\n")
    _openssl(
        folder,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-days", DAYS, "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
    )


def _kubeconfig(folder: Path, name: str) -> None:
    def encoded(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    (folder / f"{name}.kubeconfig").write_text(f"""apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: "{URL}", certificate-authority-data: {encoded("ca.crt")}}}}}]
users: [{{name: user, user: {{client-certificate-data: {encoded(f"{name}.crt")},
  client-key-data: {encoded(f"{name}.key")}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: user}}}}]
current-context: test
""")
