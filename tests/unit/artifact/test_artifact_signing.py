"""A signature covers a manifest: another key, another manifest or another version's signature is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from modelkit.artifact.signing import SignatureInvalidError, SignatureMissingError, load_signer, verify_version
from modelkit.artifact.version import DigestMismatchError, VersionNotFoundError, fetch_version, write_version
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import signature_file
from modelkit.errors import RefusedError
from modelkit.store.store import Store

PATH = "models/default/cancer/1-abc"
OTHER = "models/default/cancer/2-abc"
FILES = {"model.onnx": b"\x00\x01model", "signature.json": b"{}"}
METADATA = {"run": {"number": 1}}

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_keys(folder: Path, key: PrivateKey | None = None, password: bytes | None = None) -> Path:
    """private.pem and public.pem in `folder`, as in a Secret."""
    folder.mkdir(parents=True, exist_ok=True)
    made = key or ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "private.pem").write_bytes(made.private_bytes(pem, pkcs8, encryption))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(made.public_key().public_bytes(pem, public))
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "keys")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{root}"), {})


def signed(store: Store, keys: Path, path: str = PATH, **files: bytes) -> VersionRef:
    digest = write_version(store, path, FILES | files, METADATA | {"path": path}, load_signer(keys / "private.pem"))
    return VersionRef(number=1, path=path, digest=digest)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_a_signed_version_is_verified(store: Store, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    keys = write_keys(tmp_path / "keys", ec.generate_private_key(curve))
    ref = signed(store, keys)
    verify_version(store, ref, keys / "public.pem")
    assert sorted(file.name for file in fetch_version(store, ref, tmp_path / "copy").iterdir()) == sorted(FILES)


def test_the_signature_is_written_before_the_manifest(
    store: Store, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write, write_new = Store.write, Store.write_new
    monkeypatch.setattr(Store, "write", lambda s, p, d: (written.append(p), write(s, p, d))[1])
    monkeypatch.setattr(Store, "write_new", lambda s, p, d: (written.append(p), write_new(s, p, d))[1])
    ref = signed(store, keys)
    assert written[-2:] == [f"{PATH}/{signature_file(ref.digest)}", f"{PATH}/manifest.json"]


def test_the_standard_tool_verifies_the_manifest_by_itself(store: Store, root: Path, keys: Path) -> None:
    ref = signed(store, keys)
    folder = root / PATH
    command = ["verify", "key", "manifest.json", "--public_key", str(keys / "public.pem")]
    command += ["--signature", signature_file(ref.digest)]
    ended = subprocess.run(
        [sys.executable, "-m", "model_signing", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_another_key_is_refused(store: Store, keys: Path, tmp_path: Path) -> None:
    ref, other = signed(store, keys), write_keys(tmp_path / "others")
    with pytest.raises(SignatureInvalidError, match=r"the key of public\.pem"):
        verify_version(store, ref, other / "public.pem")


def test_a_version_without_a_signature_is_refused(store: Store, keys: Path) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    with pytest.raises(SignatureMissingError, match=r"spec\.sign"):
        verify_version(store, VersionRef(number=1, path=PATH, digest=digest), keys / "public.pem")


def test_a_version_that_is_not_there_is_refused(store: Store, keys: Path) -> None:
    with pytest.raises(VersionNotFoundError):
        verify_version(store, VersionRef(number=1, path=PATH, digest="sha256:" + "0" * 64), keys / "public.pem")


def test_a_tampered_manifest_is_refused_even_with_its_own_digest(store: Store, root: Path, keys: Path) -> None:
    """Somebody who can write both store and status still can't sign."""
    ref = signed(store, keys)
    other = signed(store, write_keys(root / "others"), OTHER, **{"model.onnx": b"evil"})
    for name in (root / OTHER).iterdir():
        (root / PATH / name.name).write_bytes(name.read_bytes())
    with pytest.raises(DigestMismatchError):
        verify_version(store, ref, keys / "public.pem")
    forged = VersionRef(number=1, path=PATH, digest=other.digest)
    with pytest.raises(SignatureInvalidError):
        verify_version(store, forged, keys / "public.pem")


def test_the_signature_of_another_version_is_refused(store: Store, root: Path, keys: Path) -> None:
    ref, other = signed(store, keys), signed(store, keys, OTHER)
    taken = (root / OTHER / signature_file(other.digest)).read_bytes()
    (root / PATH / signature_file(ref.digest)).write_bytes(taken)
    with pytest.raises(SignatureInvalidError):
        verify_version(store, ref, keys / "public.pem")


def test_a_tampered_file_of_a_signed_version_is_refused(store: Store, root: Path, keys: Path, tmp_path: Path) -> None:
    ref = signed(store, keys)
    (root / PATH / "model.onnx").write_bytes(b"\x00\x01evil!")
    verify_version(store, ref, keys / "public.pem")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx"):
        fetch_version(store, ref, tmp_path / "copy")


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"{}", b"[]", b"null", b"\xff\xfe", b'{"dsseEnvelope": {}}', b"0" * 100_000],
    ids=["empty", "text", "object", "list", "null", "binary", "half", "huge"],
)
def test_what_is_no_signature_is_refused(store: Store, root: Path, keys: Path, content: bytes) -> None:
    ref = signed(store, keys)
    (root / PATH / signature_file(ref.digest)).write_bytes(content)
    with pytest.raises(SignatureInvalidError):
        verify_version(store, ref, keys / "public.pem")


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_a_signature_without_one_of_its_parts_is_refused(store: Store, root: Path, keys: Path, field: str) -> None:
    ref = signed(store, keys)
    path = root / PATH / signature_file(ref.digest)
    bundle = json.loads(path.read_bytes())
    bundle["dsseEnvelope"][field] = [] if field == "signatures" else ""
    path.write_text(json.dumps(bundle))
    with pytest.raises(SignatureInvalidError):
        verify_version(store, ref, keys / "public.pem")


def test_a_key_file_that_is_missing_is_named(store: Store, tmp_path: Path, keys: Path) -> None:
    with pytest.raises(RefusedError, match=r"private\.pem can't be read") as signing:
        load_signer(tmp_path / "private.pem")
    with pytest.raises(RefusedError, match=r"public\.pem can't be read") as verifying:
        verify_version(store, signed(store, keys), tmp_path / "public.pem")
    assert signing.value.reason == verifying.value.reason == "SigningKeyMissing"


@pytest.mark.parametrize("kind", ["rsa", "other curve", "encrypted", "public", "text"])
def test_a_key_that_cannot_sign_is_refused(tmp_path: Path, keys: Path, kind: str) -> None:
    folder = tmp_path / "bad"
    match kind:
        case "rsa":
            write_keys(folder, rsa.generate_private_key(65537, 2048))
        case "other curve":
            write_keys(folder, ec.generate_private_key(ec.SECP256K1()))
        case "encrypted":
            write_keys(folder, password=b"secret")
        case "public":
            folder.mkdir()
            (folder / "private.pem").write_bytes((keys / "public.pem").read_bytes())
        case _:
            folder.mkdir()
            (folder / "private.pem").write_text("secret words")
    with pytest.raises(RefusedError, match=r"unencrypted PEM key of the curve P-256 or P-384") as caught:
        load_signer(folder / "private.pem")
    assert caught.value.reason == "SigningKeyUnusable"
    assert "secret words" not in str(caught.value)


def test_a_private_key_is_no_key_to_verify_with(store: Store, keys: Path) -> None:
    with pytest.raises(RefusedError, match=r"private\.pem can't be used to verify"):
        verify_version(store, signed(store, keys), keys / "private.pem")


def test_nobody_pays_for_signing_who_does_not_sign() -> None:
    script = (
        "import sys, modelkit.artifact.signing, modelkit.train.run, modelkit.serve.__main__\n"
        "sys.exit(any(name.split('.')[0] in ('model_signing', 'sigstore', 'cryptography') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], env=os.environ, check=False).returncode == 0
