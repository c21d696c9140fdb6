"""TLS with a certificate that may be renewed while the server runs."""

import logging
import ssl
from pathlib import Path

from modelkit.contract.config import TlsConfig
from modelkit.errors import RefusedError

logger = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A context for new connections, whose certificate follows the mounted files."""

    def __init__(self, config: TlsConfig) -> None:
        """Raises RefusedError when certificate and key can't be read or don't belong together."""
        self._certificate = Path(config.certificate_path)
        self._key = Path(config.key_path)
        try:
            self._stamp = self._read_stamp()
            self.context = self._load()
        except (OSError, ssl.SSLError) as exc:
            raise RefusedError(
                "BadCertificate",
                f"{config.certificate_path} and {config.key_path} aren't a usable certificate and its key "
                f"({_reason(exc)}); they must be PEM, the key without a password",
            ) from exc

    def refresh(self) -> bool:
        """Take the files' certificate if they have changed; whether it was taken.

        A pair that can't be used (it may be half written) is tried again at the next call; the old one stays.
        """
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return False
            # Into a context of its own first: a pair that doesn't fit must not get into the one that is used.
            self._load()
            self.context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ssl.SSLError) as exc:
            logger.error("the new certificate can't be used; the old one stays", extra={"cause": _reason(exc)})
            return False
        self._stamp = stamp
        logger.info("the certificate has changed")
        return True

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._certificate, self._key, password=_no_password)
        return context

    def _read_stamp(self) -> _Stamp:
        """What tells one state of the files from another, through the kubelet's symbolic links."""
        found = (path.stat() for path in (self._certificate, self._key))
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def _no_password() -> str:
    """OpenSSL would else ask on the terminal."""
    return ""


def _reason(error: Exception) -> str:
    found = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    return found or type(error).__name__
