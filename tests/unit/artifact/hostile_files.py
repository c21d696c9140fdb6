"""Files that want to run something, take all memory or reach out of their folder. Each payload would make a canary."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skops.io._protocol import PROTOCOL

Build = Callable[[Path], bytes]
"""The bytes of a file whose payload makes the canary at the path."""


class Payload:
    """Runs a shell when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._command = f"touch {canary}"

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self._command,)


def pickled(canary: Path, protocol: int = 4) -> bytes:
    return pickle.dumps(Payload(canary), protocol)


def joblib_file(canary: Path, compress: int = 0) -> bytes:
    target = io.BytesIO()
    joblib.dump(Payload(canary), target, compress=compress)
    return target.getvalue()


def pickled_array(canary: Path) -> bytes:
    """A .npy file whose objects are pickled."""
    target = io.BytesIO()
    np.save(target, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return target.getvalue()


def pickled_sparse(canary: Path) -> bytes:
    """A .npz file, as of a sparse matrix, with a pickled member."""
    target = io.BytesIO()
    np.savez(target, format=np.array([Payload(canary)], dtype=object), data=np.zeros(1), allow_pickle=True)
    return target.getvalue()


# --- skops


def node(kind: str, loader: str, **rest: Any) -> dict[str, Any]:
    module, _, name = kind.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader} | rest


def text(value: Any) -> dict[str, Any]:
    return node("builtins.str", "JsonNode", content=json.dumps(value), is_json=True)


def nodes(*items: Any, kind: str = "tuple") -> dict[str, Any]:
    return node(f"builtins.{kind}", "TupleNode" if kind == "tuple" else "ListNode", content=list(items))


def mapping(**items: Any) -> dict[str, Any]:
    keys = nodes(*[node("builtins.str", "TypeNode") for _ in items], kind="list")
    return node("builtins.dict", "DictNode", content=items, key_types=keys)


def function(name: str) -> dict[str, Any]:
    return node(name, "FunctionNode")


def archive(schema: Any, files: dict[str, bytes] | None = None, *, protocol: int = PROTOCOL) -> bytes:
    """A skops file of `schema` and array files."""
    if isinstance(schema, dict):
        schema = schema | {"protocol": protocol, "_skops_version": "0.16"}
    return zipped({"schema.json": json.dumps(schema).encode(), **(files or {})})


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as result:
        for name, data in files.items():
            result.writestr(name, data)
    return target.getvalue()


def entries(*names: zipfile.ZipInfo | str) -> bytes:
    """A loadable archive with further entries."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as result:
        result.writestr("schema.json", json.dumps(text(1) | {"protocol": PROTOCOL, "_skops_version": "0"}))
        for name in names:
            result.writestr(name, b"x")
    return target.getvalue()


def symlink_entry() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("0.npy")
    entry.external_attr = 0o120777 << 16
    return entry


def encrypted() -> bytes:
    """The flag of an encrypted entry, in both of its headers."""
    data = bytearray(entries("0.npy"))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.rindex(mark) + offset
        data[at : at + 2] = struct.pack("<H", 1)
    return bytes(data)


def bomb(size: int, name: str = "0.npy") -> bytes:
    """An archive that unfolds to `size` zeros."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as result:
        with result.open(name, "w") as entry:
            for _ in range(size // 2**20):
                entry.write(bytes(2**20))
        result.writestr("schema.json", "{}")
    return target.getvalue()


def disguised(size: int, said: int) -> bytes:
    """An archive with an array file of `size` zeros that says that it has `said`, and has their checksum."""
    changed = bytearray(archive(array("0.npy"), {"0.npy": bytes(size)}))
    at = changed.rindex(b"PK\x01\x02")
    changed[at + 16 : at + 20] = struct.pack("<I", zlib.crc32(bytes(said)))
    changed[at + 24 : at + 28] = struct.pack("<I", said)
    return bytes(changed)


def damaged_sparse() -> bytes:
    """A sparse matrix whose compressed bytes are none."""
    data = bytearray(zipped({"schema.json": b"{}", "0.npz": zipped({"data.npy": bytes(100)})}))
    at = data.index(b"0.npz") + len("0.npz")
    data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def huge_array() -> bytes:
    """A .npy header of 2**50 numbers, with none behind it."""
    target = io.BytesIO()
    np.lib.format.write_array_header_1_0(target, {"descr": "<f8", "fortran_order": False, "shape": (2**50,)})
    return target.getvalue()


def array(name: str) -> dict[str, Any]:
    return node("numpy.ndarray", "NdArrayNode", type="numpy", file=name)


def nested(levels: int) -> str:
    """The schema of lists in lists, as text: the writer would need the stack that the reader must not need."""
    start = '{"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": ['
    return start * levels + "]}" * levels


def with_function_transformer(canary: Path) -> bytes:
    import os

    step = FunctionTransformer(partial(os.system, f"touch {canary}"))
    return bytes(skops.io.dumps(make_pipeline(step, LogisticRegression())))


def with_attribute(canary: Path) -> bytes:
    import os

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.hook_ = {"deep": [{"deeper": partial(os.system, f"touch {canary}")}]}
    return bytes(skops.io.dumps(model))


def gadgets(canary: Path) -> dict[str, bytes]:
    """skops files that ask for something that isn't on the list, each in another way."""
    command = text(f"touch {canary}")
    call = nodes(command)
    popen = nodes(nodes(text("touch"), text(str(canary)), kind="list"))
    schemas: dict[str, dict[str, Any]] = {
        "a function": function("os.system"),
        "a built-in function": function("builtins.eval"),
        "a function by another module": function("posix.system"),
        "a type": node("subprocess.Popen", "TypeNode"),
        "a constructor with arguments": node("subprocess.Popen", "ConstructorFromReduceNode", content=popen),
        "an object with a state": node("os._wrap_close", "ObjectNode", content=mapping(name=text("x"))),
        "functools.partial": node(
            "functools.partial",
            "PartialNode",
            content={"func": function("os.system"), "args": call, "kwds": mapping(), "namespace": mapping()},
        ),
        "operator.attrgetter": node("operator.attrgetter", "OperatorFuncNode", attrs=nodes(text("system"))),
        "operator.methodcaller": node(
            "operator.methodcaller", "OperatorFuncNode", attrs=nodes(text("system"), command)
        ),
        "a method": node("builtins.dict", "MethodNode", content={"func": "clear", "obj": mapping(a=text(1))}),
        "a method of another class": node(
            "sklearn.linear_model._logistic.LogisticRegression",
            "MethodNode",
            content={"func": "system", "obj": node("os._wrap_close", "ObjectNode", content=mapping())},
        ),
        "a bit generator that is a function": node(
            "numpy.random._generator.Generator",
            "RandomGeneratorNode",
            content={"bit_generator": mapping(bit_generator=text("seed")), "seed_seq": mapping()},
        ),
        "a default factory": node(
            "collections.defaultdict",
            "DefaultDictNode",
            content={"main": mapping(), "default_factory": function("os.system")},
        ),
        "an array of objects": node(
            "numpy.ndarray",
            "NdArrayNode",
            type="json",
            content=[function("os.system")],
            shape=nodes(text(1)),
        ),
        "deep in trusted containers": mapping(a=nodes(mapping(b=nodes(function("os.system"), kind="list")))),
        "in the state of a trusted estimator": node(
            "sklearn.linear_model._logistic.LogisticRegression", "ObjectNode", content=mapping(a=function("os.system"))
        ),
        "a loader of a trusted name": node("sklearn.tree._tree.Tree", "FunctionNode")
        | {"__class__": "Popen", "__module__": "subprocess"},
        "a dotted class": {"__class__": "path.os.system", "__module__": "os", "__loader__": "FunctionNode"},
        "an unknown loader": node("os.system", "EvalNode", content=command),
        "a reference to nothing": node("builtins.dict", "CachedNode", __id__=7),
        "a reference to itself": nodes(node("builtins.list", "CachedNode", __id__=1), kind="list") | {"__id__": 1},
        "a trusted constructor with wrong arguments": node(
            "sklearn.tree._tree.Tree",
            "TreeNode",
            __reduce__={"args": nodes(text(1), text(2), text(3))},
            content=mapping(nodes=command),
        ),
    }
    built = {name: archive(schema) for name, schema in schemas.items()}
    old = node("numpy.ufunc", "FunctionNode", content={"module_path": "os", "function": "system"})
    built["a function by the loaders of protocol 0"] = archive(old, protocol=0)
    built["a function by the loaders of protocol 1"] = archive(function("os.system"), protocol=1)
    built["a method caller by the loaders of protocol 0"] = archive(schemas["operator.methodcaller"], protocol=0)
    return built | {
        "a FunctionTransformer": with_function_transformer(canary),
        "a fitted attribute": with_attribute(canary),
        "a pickled array": archive(array("0.npy"), {"0.npy": pickled_array(canary)}),
        "a pickled sparse matrix": archive(
            node("scipy.sparse._matrix.spmatrix", "SparseMatrixNode", type="scipy", file="0.npz"),
            {"0.npz": pickled_sparse(canary)},
        ),
        "a pickle for an array": archive(array("0.npy"), {"0.npy": pickled(canary)}),
    }


def broken_archives(canary: Path) -> dict[str, bytes]:
    """Archives that no writer makes."""
    loadable = entries("0.npy")
    return {
        "a path upwards": entries("../../canary.npy"),
        "an absolute path": entries(str(canary)),
        "a backslash": entries("..\\canary.npy"),
        "a folder": entries("a/b.npy"),
        "a program": entries("sitecustomize.py"),
        "a symlink": entries(symlink_entry()),
        "encrypted": encrypted(),
        "LZMA": zipped({"schema.json": b"{}"}, zipfile.ZIP_LZMA),
        "cut short": loadable[:-10],
        "no schema": zipped({"0.npy": b"x"}),
        "a schema that is a list": archive([1]),
        "a schema that is no JSON": zipped({"schema.json": b"\xff{"}),
        "a bomb": bomb(300 * 2**20),
        "a bomb in a sparse matrix": zipped({"schema.json": b"{}", "0.npz": bomb(300 * 2**20, "data.npy")}),
        "a bomb that says it is small": disguised(64 * 2**20, 100),
        "damaged compression": damaged_sparse(),
        "an array that isn't there": archive(array("0.npy")),
        "an array of 8 PiB": archive(array("0.npy"), {"0.npy": huge_array()}),
        "a deep schema": zipped({"schema.json": nested(20_000).encode()}),
        "a schema of a deeper kind": zipped({"schema.json": (nested(150)).encode()}),
    }
