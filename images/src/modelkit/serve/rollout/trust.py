"""Whom a pod believes to be another pod of its deployment, where the pods' own ports are encrypted.

All pods mount the same Secret, so the other side must show exactly the certificate that this pod shows itself, and
prove that it has the key. Its host name means nothing then. While the Secret is renewed, some pods have the new pair
and some the old one: the one before stays good for a while.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelkit.contract.config import TlsConfig
from modelkit.serve.runtime.pool import Encryption

logger = logging.getLogger(__name__)

RENEWAL_SECONDS = 300.0
"""How long the certificate before is good: the kubelet brings a changed Secret to all pods in a minute or two."""
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Known:
    """A certificate that the other side may show."""

    pem: str
    der: bytes
    name: str
    """One of its names, by which gRPC asks for it."""


class Trust:
    """The certificate of the mounted Secret, as a client sees it. On the event loop."""

    def __init__(self, config: TlsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError or ValueError when the certificate can't be read."""
        self._path = Path(config.certificate_path)
        self._clock = clock
        self._content = self._path.read_bytes()
        self._now = _read(self._content)
        self._before: Known | None = None
        self._changed = 0.0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Who signed the certificate doesn't matter: `check` wants this very one, before anything is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        self.encryption = Encryption(context, self._check)

    @property
    def known(self) -> tuple[Known, ...]:
        """The certificates that are good at the moment, the newest first."""
        if self._before is None or self._clock() > self._changed + RENEWAL_SECONDS:
            return (self._now,)
        return (self._now, self._before)

    def refresh(self) -> bool:
        """Follow the file; whether there is another certificate. One that can't be read leaves the old one."""
        try:
            content = self._path.read_bytes()
            if content == self._content:
                return False
            found = _read(content)
        except (OSError, ValueError) as exc:
            logger.error("the new certificate can't be read; the old one stays", extra={"error": type(exc).__name__})
            return False
        self._content = content
        if found == self._now:
            return False
        self._before, self._now, self._changed = self._now, found, self._clock()
        return True

    def _check(self, found: ssl.SSLObject) -> None:
        shown = found.getpeercert(binary_form=True)
        if shown not in {known.der for known in self.known}:
            raise ssl.SSLError("the other side shows another certificate than this pod's own")


def _read(content: bytes) -> Known:
    """The first certificate of a PEM file: the server's own, before those that signed it."""
    from cryptography import x509  # Takes megabytes, which pods without encryption needn't have.

    text = content.decode("ascii", "replace")
    begin, end = text.find("-----BEGIN CERTIFICATE-----"), text.find(_END)
    if begin < 0 or end < 0:
        raise ValueError("no certificate in PEM")
    pem = text[begin : end + len(_END)] + "\n"
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        found = [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    # Any name that a wildcard stands for will do.
    name = found[0].replace("*", "pod", 1) if found else "pod"
    return Known(pem, ssl.PEM_cert_to_DER_cert(pem), name)
