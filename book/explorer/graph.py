"""A network and its backward pass as one ONNX graph of forward operations; `arithmetic.md` explains every step.

A runtime for the browser runs graphs forward and has no autograd. But a backward pass is itself made of ordinary
operations, so it can be written into the graph: each function here emits the operation of one layer, and remembers
how a signal at its output becomes signals at its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor

OPSET = 18                                                             # the first with ScatterElements that adds
INPUTS = {"image": (1, 3, 224, 224), "seed": (1, 1000), "lowest": (1,)}
Signals = dict[str, str]                                               # name of an input -> name of the signal at it


class Graph:
    """Operations in the order they run, their weights, and the way back.

    Attributes:
        shapes: name of a tensor -> its shape.
        layers: a layer's dotted name in PyTorch -> name of the tensor that it returns.
        manifest: of every weight tensor its place in the weights file, and how many numbers enter one of its outputs.
    """

    def __init__(self) -> None:
        self.shapes = dict(INPUTS)
        self.layers: dict[str, str] = {}
        self.manifest: list[dict] = []
        self.data = bytearray()
        self.constants: list[onnx.TensorProto] = []
        self.forward: list[onnx.NodeProto] = []
        self.nodes = self.forward                                      # where emit writes
        self.ways_back: list[tuple[str, Callable[[str], Signals]]] = []

    def emit(self, operation: str, inputs: list[str], shape: tuple[int, ...], **options) -> str:
        """Append one operation; the name of its result, which has the given shape."""
        name = f"{operation}_{len(self.shapes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], name=name, **options))
        self.shapes[name] = tuple(shape)
        return name

    def constant(self, values: list) -> str:
        """A small tensor that is no weight: int64 for whole numbers, float32 for others."""
        name, array = f"constant_{len(self.constants)}", np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, values: Tensor, half: bool = False) -> str:
        """A weight in the weights file, in float16 if `half`; the name of the float32 tensor."""
        array = values.detach().numpy().astype(np.float16 if half else np.float32)
        self.data += bytes(-len(self.data) % 16)
        place = {"name": name, "offset": len(self.data), "shape": list(array.shape), "half": half}
        self.manifest.append(place)
        self.data += np.ascontiguousarray(array).tobytes()
        self.shapes[name] = tuple(array.shape)
        return self.emit("Cast", [name], array.shape, to=TensorProto.FLOAT) if half else name

    def way_back(self, output: str, function: Callable[[str], Signals]) -> str:
        """Remember how the signal at `output` goes on; gives `output`."""
        self.ways_back.append((output, function))
        return output


def conv(graph: Graph, x: str, W: str, b: str, stride: int, padding: int) -> str:
    """W * x + b. Backward: the transposed convolution with the same weights."""
    (_, _, height, width), (channels, _, kernel, _) = graph.shapes[x], graph.shapes[W]
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    lost = [side + 2 * padding - kernel - (size - 1) * stride for side, size in zip((height, width), out, strict=True)]
    options = {"strides": [stride] * 2, "pads": [padding] * 4, "kernel_shape": [kernel] * 2}

    def back(R: str) -> Signals:
        # `lost`: rows that a stride leaves over at the end get a signal too, which is 0
        return {x: graph.emit("ConvTranspose", [R, W], graph.shapes[x], output_padding=lost, **options)}

    return graph.way_back(graph.emit("Conv", [x, W, b], (1, channels, *out), **options), back)


def relu(graph: Graph, x: str) -> str:
    """max(x, 0). Backward: R [x > 0], with R raised to `lowest` first, which is 0 for guided backpropagation."""
    y, shape = graph.emit("Relu", [x], graph.shapes[x]), graph.shapes[x]

    def back(R: str) -> Signals:
        gate = graph.emit("Sign", [y], shape)                          # y >= 0, so its sign is [x > 0]
        return {x: graph.emit("Mul", [graph.emit("Max", [R, "lowest"], shape), gate], shape)}

    return graph.way_back(y, back)


def max_pool(graph: Graph, x: str, kernel: int, stride: int, padding: int) -> str:
    """The largest value of each window. Backward: its place gets the signal; of equal ones the first, as in PyTorch."""
    _, channels, height, width = graph.shapes[x]
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    y, count = graph.emit("Identity", [x], (1, channels, *out)), channels * height * width
    graph.nodes[-1] = helper.make_node("MaxPool", [x], [y, f"{y}_places"], name=y, kernel_shape=[kernel] * 2,
                                       strides=[stride] * 2, pads=[padding] * 4)  # fmt: skip

    def back(R: str) -> Signals:
        flat = graph.constant([-1])
        places = graph.emit("Reshape", [f"{y}_places", flat], (prod(graph.shapes[y]),))
        signals = graph.emit("Reshape", [R, flat], (prod(graph.shapes[y]),))
        nothing = graph.emit("ConstantOfShape", [graph.constant([count])], (count,))
        sums = graph.emit("ScatterElements", [nothing, places, signals], (count,), axis=0, reduction="add")
        return {x: graph.emit("Reshape", [sums, graph.constant(list(graph.shapes[x]))], graph.shapes[x])}

    return graph.way_back(y, back)


def concatenate(graph: Graph, parts: list[str]) -> str:
    """Channels of several maps, one after the other. Backward: each part gets its channels' signal."""
    _, _, height, width = graph.shapes[parts[0]]
    ends = np.cumsum([0, *(graph.shapes[part][1] for part in parts)]).tolist()

    def back(R: str) -> Signals:
        axis = graph.constant([1])
        cuts = [[R, graph.constant([ends[i]]), graph.constant([ends[i + 1]]), axis] for i in range(len(parts))]
        return {part: graph.emit("Slice", cut, graph.shapes[part]) for part, cut in zip(parts, cuts, strict=True)}

    return graph.way_back(graph.emit("Concat", parts, (1, ends[-1], height, width), axis=1), back)


def add(graph: Graph, x: str, y: str) -> str:
    """x + y. Backward: both get the signal as it is."""
    return graph.way_back(graph.emit("Add", [x, y], graph.shapes[x]), lambda R: {x: R, y: R})


def average(graph: Graph, x: str) -> str:
    """(1, C, h, w) -> (1, C), the mean over places. Backward: every place gets an equal part."""
    _, channels, height, width = graph.shapes[x]
    mean = graph.emit("ReduceMean", [x, graph.constant([2, 3])], (1, channels), keepdims=0)

    def back(R: str) -> Signals:
        shape, part = (1, channels, 1, 1), graph.constant([1 / (height * width)])
        one = graph.emit("Mul", [graph.emit("Reshape", [R, graph.constant(list(shape))], shape), part], shape)
        return {x: graph.emit("Expand", [one, graph.constant(list(graph.shapes[x]))], graph.shapes[x])}

    return graph.way_back(mean, back)


def linear(graph: Graph, x: str, W: str, b: str) -> str:
    """W x + b. Backward: the transposed matrix."""
    classes = graph.shapes[W][0]

    def back(R: str) -> Signals:
        return {x: graph.emit("MatMul", [R, W], graph.shapes[x])}

    return graph.way_back(graph.emit("Gemm", [x, W, b], (1, classes), transB=1), back)


def backward(graph: Graph, logits: str) -> tuple[list[onnx.NodeProto], dict[str, str]]:
    """From the seed at the logits down to the image: the operations, and the signals at the layers and the image."""
    graph.nodes, signals, found = [], {logits: "seed"}, {}
    wanted = {tensor: name for name, tensor in graph.layers.items()}
    for output, function in reversed(graph.ways_back):
        R = signals.pop(output)
        if output in wanted:
            found[wanted[output]] = R
        for name, signal in function(R).items():
            if name in signals:                                        # a value that is read twice: signals add up
                signal = graph.emit("Add", [signals[name], signal], graph.shapes[name])
            signals[name] = signal
    return graph.nodes, {"image": signals["image"], **found}


def branch(name: str, nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.GraphProto:
    """One side of the If; it reads the tensors around it."""
    infos = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs]
    return helper.make_graph(nodes, name, [], infos)


def finish(graph: Graph, logits: str, weights_file: str) -> onnx.ModelProto:
    """The model: image, seed, lowest, want_gradient -> logits, A of every layer, gradient, dA of every layer.

    The backward pass runs only if want_gradient is true; without it the gradients are one zero each.
    """
    nodes, signals = backward(graph, logits)
    names = {"image": "gradient", **{layer: f"d_{layer}" for layer in graph.layers}}
    inside = {key: f"inside_{name}" for key, name in names.items()}
    nodes += [helper.make_node("Identity", [signals[key]], [inside[key]]) for key in names]
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    nothing = [helper.make_node("Constant", [], [f"no_{name}"], value=zero) for name in names.values()]
    yes = branch("gradient", nodes, list(inside.values()))
    no = branch("nothing", nothing, [f"no_{name}" for name in names.values()])
    choice = helper.make_node("If", ["want_gradient"], list(names.values()), then_branch=yes, else_branch=no)
    records = [helper.make_node("Identity", [tensor], [f"a_{layer}"]) for layer, tensor in graph.layers.items()]
    records.append(helper.make_node("Identity", [logits], ["logits"]))
    outputs = ["logits", *(f"a_{layer}" for layer in graph.layers), *names.values()]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in INPUTS.items()]
    inputs.append(helper.make_tensor_value_info("want_gradient", TensorProto.BOOL, []))
    whole = helper.make_graph(
        [*graph.forward, *records, choice], "network", inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [*graph.constants, *(external(place, weights_file) for place in graph.manifest)],
    )  # fmt: skip
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def external(place: dict, file: str) -> onnx.TensorProto:
    """A weight whose values stand in another file."""
    kind, size = (TensorProto.FLOAT16, 2) if place["half"] else (TensorProto.FLOAT, 4)
    tensor = onnx.TensorProto(name=place["name"], data_type=kind, dims=place["shape"])
    tensor.data_location = TensorProto.EXTERNAL
    length = size * prod(place["shape"])
    for key, value in (("location", file), ("offset", place["offset"]), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
