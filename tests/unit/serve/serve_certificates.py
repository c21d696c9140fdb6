"""Certificates of our own, as a Secret of type kubernetes.io/tls is mounted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modelkit.contract.config import TlsConfig


def tls_config(folder: Path) -> TlsConfig:
    """Where the kubelet puts the two files."""
    return TlsConfig(certificate_path=str(folder / "tls.crt"), key_path=str(folder / "tls.key"))


def write_pair(folder: Path, name: str) -> None:
    """A new key and a certificate of it for `localhost`, whose common name is `name`."""
    certificate, key = make_pair(name)
    folder.mkdir(exist_ok=True)
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)


def mount_pair(folder: Path, name: str) -> None:
    """The same, as the kubelet does: into a new directory, to which a link then turns at once."""
    data = folder / f"..{name}"
    folder.mkdir(exist_ok=True)
    write_pair(data, name)
    link = folder / "..new"
    link.symlink_to(data.name)
    link.rename(folder / "..data")
    for file in ("tls.crt", "tls.key"):
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(f"..data/{file}")


def make_pair(name: str) -> tuple[bytes, bytes]:
    """PEM of a certificate that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
