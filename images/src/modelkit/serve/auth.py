"""Who may ask: requests with a bearer token (RFC 6750) that is a file of a mounted Secret."""

import hashlib
import hmac
import logging
from pathlib import Path

from modelkit.contract.config import AuthConfig
from modelkit.errors import RefusedError

logger = logging.getLogger(__name__)

_SCHEME = b"bearer"


class Auth:
    """The known tokens, as hashes. `refresh` is called now and then, because a mounted Secret may change."""

    def __init__(self, config: AuthConfig) -> None:
        """Raises RefusedError when the directory can't be read or holds no token: nobody could ever ask."""
        self._directory = Path(config.directory)
        try:
            self._hashes = _read_hashes(self._directory)
        except OSError as exc:
            raise RefusedError("BadTokens", f"the tokens in {config.directory} can't be read ({exc.strerror})") from exc
        if not self._hashes:
            raise RefusedError("BadTokens", f"there is no token in {config.directory}; put at least one in the Secret")

    def allows(self, header: bytes | None) -> bool:
        """Does an Authorization header, `Bearer <token>`, have one of the tokens? Any wrong one takes as long."""
        scheme, _, token = (header or b"").strip().partition(b" ")
        token = token.strip()
        if scheme.lower() != _SCHEME or not token:
            return False
        found, is_known = hashlib.sha256(token).digest(), False
        for known in self._hashes:
            is_known |= hmac.compare_digest(found, known)
        return is_known

    def refresh(self) -> None:
        """Read the tokens again; those that were known stay when that fails. No token left: nobody is let in."""
        try:
            hashes = _read_hashes(self._directory)
        except OSError as exc:
            logger.error("the tokens can't be read; the known ones stay", extra={"error": type(exc).__name__})
            return
        if hashes != self._hashes:
            self._hashes = hashes
            logger.info("the tokens have changed", extra={"tokens": len(hashes)})


def _read_hashes(directory: Path) -> tuple[bytes, ...]:
    """SHA-256 of every file's content without the whitespace around it. The kubelet's own entries begin with dots."""
    contents = (
        path.read_bytes().strip()
        for path in sorted(directory.iterdir())
        if not path.name.startswith(".") and path.is_file()
    )
    return tuple(hashlib.sha256(content).digest() for content in contents if content)
