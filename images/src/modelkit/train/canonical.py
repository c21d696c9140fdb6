"""ONNX models whose bytes depend on what they compute only.

skl2onnx numbers some names by counters that live as long as the process: a second export of the same pipeline would be
other bytes, and so another digest.
"""

from typing import Any


def rename(model: Any) -> None:
    """Number the names of nodes and of values inside an onnx ModelProto in order of appearance, and sort its operator
    sets, in place.

    The names of the model's inputs and outputs stay, as those are its interface.
    """
    graph = model.graph
    numbers: dict[str, str] = {entry.name: entry.name for entry in (*graph.input, *graph.output)} | {"": ""}

    def renamed(name: str) -> str:
        return numbers.setdefault(name, f"v{len(numbers)}")

    def walk(graph: Any) -> None:
        for entry in (*graph.input, *graph.initializer):
            entry.name = renamed(entry.name)
        for node in graph.node:
            node.name = renamed(f"node {node.name}") if node.name else ""
            node.input[:] = [renamed(name) for name in node.input]
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                    walk(inner)
            node.output[:] = [renamed(name) for name in node.output]
        for entry in (*graph.output, *graph.value_info):
            entry.name = renamed(entry.name)

    walk(graph)
    # skl2onnx takes the versions of operator sets out of a set of texts, whose order changes with the process.
    versions = sorted((entry.domain, entry.version) for entry in model.opset_import)
    del model.opset_import[:]
    for domain, version in versions:
        model.opset_import.add(domain=domain, version=version)
