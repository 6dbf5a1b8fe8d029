"""The cluster's certificates: three small authorities and what they sign, made once by the openssl program."""

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster import network
from dev.cluster.errors import ClusterError

DAYS = "3650"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


@dataclass(frozen=True)
class Certificate:
    """One key pair `NAME.crt`, `NAME.key`. `groups` become organizations; `names` are subject alternative names."""

    name: str
    authority: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    server: bool = False

    @property
    def subject(self) -> str:
        return "".join(f"/O={group}" for group in self.groups) + f"/CN={self.user}"


AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca")

CERTIFICATES = (
    Certificate(
        "kube-apiserver",
        "ca",
        "kube-apiserver",
        names=(
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            f"DNS:kubernetes.default.svc.{network.DOMAIN}",
            "DNS:localhost",
            "IP:127.0.0.1",
            f"IP:{network.NODE_IP}",
            f"IP:{network.API_SERVICE_IP}",
        ),
        server=True,
    ),
    Certificate("kubelet-serving", "ca", network.NODE_NAME, names=(f"IP:{network.NODE_IP}",), server=True),
    Certificate("kubelet-client", "ca", "kube-apiserver", groups=("system:masters",)),
    Certificate("admin", "ca", "admin", groups=("system:masters",)),
    Certificate("controller-manager", "ca", "system:kube-controller-manager"),
    Certificate("scheduler", "ca", "system:kube-scheduler"),
    Certificate("kubelet", "ca", f"system:node:{network.NODE_NAME}", groups=("system:nodes",)),
    Certificate("kube-proxy", "ca", "system:kube-proxy"),
    Certificate("coredns", "ca", "system:coredns"),
    Certificate("local-provisioner", "ca", "system:local-provisioner"),
    Certificate("etcd", "etcd-ca", "etcd", names=("IP:127.0.0.1",), server=True),
    Certificate("etcd-client", "etcd-ca", "kube-apiserver"),
    Certificate("front-proxy-client", "front-proxy-ca", "front-proxy-client"),
)


def wanted() -> str:
    """What a folder of certificates was made for; another text means that they have to be made again."""
    return json.dumps({"authorities": AUTHORITIES, "certificates": [asdict(c) for c in CERTIFICATES]}, indent=1) + "\n"


def ensure(folder: Path) -> bool:
    """Makes the certificates unless `folder` holds exactly these; returns whether it did.

    They are made in a neighbouring folder and moved in one step, so a crash never leaves half of them.
    """
    note = folder / "made-for.json"
    if note.exists() and note.read_text() == wanted():
        return False
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    for name in AUTHORITIES:
        _openssl(partial, "req", "-x509", *CURVE, "-days", DAYS, "-subj", f"/CN=tapchanger-{name}",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
                 "-keyout", f"{name}.key", "-out", f"{name}.crt")  # fmt: skip
    for certificate in CERTIFICATES:
        _openssl(partial, *_signing(certificate))
    _openssl(partial, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-accounts.key")
    _openssl(partial, "ec", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub")
    (partial / note.name).write_text(wanted())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


def _signing(certificate: Certificate) -> tuple[str, ...]:
    usage = "clientAuth,serverAuth" if certificate.server else "clientAuth"
    extensions = [
        "-addext", "basicConstraints=critical,CA:FALSE",
        "-addext", "keyUsage=critical,digitalSignature",
        "-addext", f"extendedKeyUsage={usage}",
    ]  # fmt: skip
    if certificate.names:
        extensions += ["-addext", f"subjectAltName={','.join(certificate.names)}"]
    authority = certificate.authority
    return (
        "req", "-x509", *CURVE, "-days", DAYS, "-subj", certificate.subject,
        "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", *extensions,
        "-keyout", f"{certificate.name}.key", "-out", f"{certificate.name}.crt",
    )  # fmt: skip


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"openssl {arguments[0]} failed (OpenSSL 3 or later is needed): {done.stderr.strip()}")
