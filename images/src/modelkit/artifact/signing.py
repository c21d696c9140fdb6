"""A version's signature: model-signing's (OpenSSF) bundle over the bytes of manifest.json, by an elliptic curve key.

The manifest names the sha256 of every file, so that its signature covers the version whole. The signature can't be a
file of the manifest; it lies beside it under a name that holds the manifest's digest, so that two attempts of one run
never write over each other's. It is written before the manifest: a complete version of a signing run has its signature.

Nothing here talks to a network. model-signing costs a third of a second and 45 MB to import, so it is imported only
where something is signed or verified.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from modelkit.artifact.version import ArtifactError, read_manifest_bytes
from modelkit.contract.config import VersionRef
from modelkit.contract.files import MANIFEST, signature_file
from modelkit.errors import RefusedError, StoreObjectNotFoundError
from modelkit.store.store import Store

_MAX_SIGNATURE_BYTES = 65_536
_PEM_ADVICE = "expected an unencrypted PEM key of the curve P-256 or P-384"


class SignatureMissingError(ArtifactError):
    """A signature is demanded, and the version has none."""


class SignatureInvalidError(ArtifactError):
    """The version's signature isn't one of its manifest by the expected key."""


def load_signer(private_key: Path) -> Callable[[bytes], bytes]:
    """A function from a manifest's bytes to its signature; raises RefusedError for a key that can't sign.

    Made before anything is learnt: a key that isn't there costs seconds, not a search.
    """
    from model_signing.signing import Config

    data = _read_key(private_key)
    try:
        _check_curve(data, private=True)
        config = Config().use_elliptic_key_signer(private_key=private_key)
    except (ValueError, TypeError) as exc:  # TypeError: the key is encrypted
        raise RefusedError("SigningKeyUnusable", f"{private_key.name} can't be used to sign; {_PEM_ADVICE}") from exc

    def sign(manifest: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="sign-") as folder:
            model, signature = Path(folder, MANIFEST), Path(folder, "signature")
            model.write_bytes(manifest)
            config.sign(model, signature)
            return signature.read_bytes()

    return sign


def verify_version(store: Store, ref: VersionRef, public_key: Path) -> None:
    """Check the signature of the version's manifest; the manifest isn't parsed and no file of the version is read.

    Raises SignatureMissingError, SignatureInvalidError, DigestMismatchError or VersionNotFoundError for the version,
    RefusedError for a key that can't be used, StoreError when the store can't be read.
    """
    key = _read_key(public_key)
    manifest = read_manifest_bytes(store, ref)
    path = f"{ref.path}/{signature_file(ref.digest)}"
    try:
        size = store.size(path)
        signature = store.read(path) if size is not None and size <= _MAX_SIGNATURE_BYTES else b""
    except StoreObjectNotFoundError:
        size, signature = None, b""
    if size is None:
        raise SignatureMissingError(
            f"the version {ref.path} isn't signed: there is no {signature_file(ref.digest)} beside its {MANIFEST}; "
            "train with spec.sign, or don't ask for verification"
        )
    _verify(manifest, signature, key, public_key, ref)


def _verify(manifest: bytes, signature: bytes, key: bytes, public_key: Path, ref: VersionRef) -> None:
    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing
    from model_signing.verifying import Config

    try:
        _check_curve(key, private=False)
        config = Config().use_elliptic_key_verifier(public_key=public_key)
    except (ValueError, TypeError, AttributeError) as exc:
        raise RefusedError(
            "VerificationKeyUnusable", f"{public_key.name} can't be used to verify; {_PEM_ADVICE}"
        ) from exc
    # How to hash is ours to say, not the signature's.
    config.set_hashing_config(hashing.Config().use_file_serialization(hashing_algorithm="sha256"))
    try:
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            model, bundle = Path(folder, MANIFEST), Path(folder, "signature")
            model.write_bytes(manifest)
            bundle.write_bytes(signature)
            json.loads(signature)
            config.verify(model, bundle)
    except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise SignatureInvalidError(
            f"the signature {signature_file(ref.digest)} of the version {ref.path} isn't one of its {MANIFEST} by the "
            f"key of {public_key.name}: the version was made or changed by somebody else, or the key was exchanged; "
            "it isn't used"
        ) from exc


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RefusedError(
            "SigningKeyMissing",
            f"the key {path} can't be read ({exc.strerror}); the Secret must hold private.pem and public.pem",
        ) from exc


def _check_curve(data: bytes, *, private: bool) -> None:
    """Raises ValueError or TypeError for what isn't a key of a supported curve."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    key = load_pem_private_key(data, None) if private else load_pem_public_key(data)
    if not isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        raise TypeError("not an elliptic curve key")
    if key.curve.name not in ("secp256r1", "secp384r1"):
        raise ValueError(f"curve {key.curve.name}")
