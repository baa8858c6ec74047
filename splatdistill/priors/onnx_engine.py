"""The plain UNet as an ONNX graph, written layer by layer, and onnxruntime to compute it. R rows, C channels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from splatdistill.priors.packed import UNetInput, twin
from splatdistill.priors.unet import Block, Embedding, Resnet, Transformer, UNet, sinusoids

OPSET = 20  # the first with Gelu
MICROSOFT = "com.microsoft"  # onnxruntime's own operators


class OnnxUNet:
    """A UNet computed by onnxruntime, with a session for each shape of inputs."""

    name = "onnx"

    def __init__(self, unet: UNet) -> None:
        self._unet = twin(unet)  # before adapters come
        self._sessions: dict[tuple[int, ...], Any] = {}

    @torch.no_grad()
    def __call__(self, inputs: UNetInput) -> Tensor:
        """The UNet's answer [R,C,h,w]."""
        if inputs.shape not in self._sessions:
            self.prepare(inputs)
        return torch.from_numpy(self._sessions[inputs.shape].run(None, self._arrays(inputs))[0])

    @torch.no_grad()
    def prepare(self, inputs: UNetInput) -> str:
        """Makes the session for inputs of this shape. Returns a hash of its model, weights included."""
        graph = OnnxGraph(self._unet, inputs, self._arrays(inputs))
        model = graph.model().SerializeToString()
        self._sessions[inputs.shape] = start(model, graph.weights)
        digest = hashlib.sha256(model)
        for weight in graph.weights.values():
            digest.update(weight.data)
        return digest.hexdigest()

    def _arrays(self, inputs: UNetInput) -> dict[str, np.ndarray]:
        arrays = {
            "sample": inputs.sample,
            "sinusoids": sinusoids(inputs.t, self._unet.conv_in.out_channels),
            "text": inputs.text,
            "class_labels": inputs.class_labels,
            # As `install_view_attention` has it.
            "has_camera": (inputs.class_labels != 0).any(-1, keepdim=True).float(),
        }
        return {name: x.contiguous().numpy() for name, x in arrays.items()}


def start(model: bytes, weights: Mapping[str, np.ndarray]) -> Any:
    """A session for a serialised model, with as many threads as torch has, which do not spin while they wait."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxGraph:
    """Nodes of a UNet for one shape of inputs, with its weights beside them, by name: in the model they would be
    copied three times. Methods take and return names of values.
    """

    def __init__(self, unet: UNet, inputs: UNetInput, arrays: dict[str, np.ndarray]) -> None:
        self._inputs, self._arrays = inputs, arrays
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._rows = len(inputs.sample)
        self._out = self._unet(unet)

    def model(self) -> onnx.ModelProto:
        def value(name: str, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

        inputs = [value(name, array.shape) for name, array in self._arrays.items()]
        graph = helper.make_graph(self._nodes, "unet", inputs, [value(self._out, None)], self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _add(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self._nodes)}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def _constant(self, value: Tensor | Sequence[int]) -> str:
        """The name of a constant of any shape, which the graph gets."""
        name = f"c{len(self._constants)}"
        if isinstance(value, Tensor):
            self.weights[name] = value.detach().contiguous().numpy()
            made = onnx.TensorProto(name=name, dims=value.shape, data_type=onnx.TensorProto.FLOAT)
            made.data_location = onnx.TensorProto.EXTERNAL
            made.external_data.add(key="location", value=name)  # a file that is never opened
        else:
            made = numpy_helper.from_array(np.array(value, np.int64), name)
        self._constants.append(made)
        return name

    def _reshape(self, x: str, *shape: int) -> str:
        return self._add("Reshape", x, self._constant(shape))

    def _linear(self, x: str, layer: nn.Module) -> str:
        """x: [N,W]."""
        assert isinstance(layer, nn.Linear)
        bias = [] if layer.bias is None else [self._constant(layer.bias)]
        return self._add("Gemm", x, self._constant(layer.weight), *bias, transB=1)

    def _conv(self, x: str, conv: nn.Module) -> str:
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        pads = [*conv.padding, *conv.padding]
        weights = self._constant(conv.weight), self._constant(conv.bias)
        return self._add("Conv", x, *weights, pads=pads, strides=list(conv.stride))

    def _silu(self, x: str) -> str:
        return self._add("Mul", x, self._add("Sigmoid", x))

    def _group_norm(self, x: str, norm: nn.GroupNorm, side: int, scale: str = "", shift: str = "") -> str:
        """The norm of x [R,C,side,side] with its own scale and shift, or those of each row [R,C,1,1] after them."""
        groups = norm.num_groups
        ones, zeros = self._constant(torch.ones(groups)), self._constant(torch.zeros(groups))
        flat = self._reshape(x, self._rows, groups, -1)
        flat = self._add("InstanceNormalization", flat, ones, zeros, epsilon=norm.eps)
        x = self._reshape(flat, self._rows, norm.num_channels, side, side)
        gain, bias = (self._constant(w.view(1, -1, 1, 1)) for w in (norm.weight, norm.bias))
        if scale:  # two small products in place of a large one
            gain, bias = self._add("Mul", gain, scale), self._add("Add", self._add("Mul", bias, scale), shift)
        return self._add("Add", self._add("Mul", x, gain), bias)

    def _embedding(self, x: str, layer: Embedding) -> str:
        return self._linear(self._silu(self._linear(x, layer.linear_1)), layer.linear_2)

    def _unet(self, unet: UNet) -> str:
        side = self._inputs.sample.shape[-1]
        labels = self._add("Mul", self._embedding("class_labels", unet.class_embedding), "has_camera")
        self._embedded = self._silu(self._add("Add", self._embedding("sinusoids", unet.time_embedding), labels))
        self._text = self._reshape("text", -1, self._inputs.text.shape[-1])
        x = self._conv("sample", unet.conv_in)
        skips = [(x, side)]
        for block in unet.down_blocks:
            assert isinstance(block, Block)
            for layer in range(len(block.resnets)):
                x = self._layer(x, block, layer, side)
                skips.append((x, side))
            for down in block.downsamplers:
                x, side = self._conv(x, down.conv), (side + 1) // 2  # type: ignore[arg-type]
                skips.append((x, side))
        x = self._layer(x, unet.mid_block, 0, side)
        x = self._resnet(x, unet.mid_block.resnets[1], side)
        for block in unet.up_blocks:
            assert isinstance(block, Block)
            for layer in range(len(block.resnets)):
                x = self._layer(self._add("Concat", x, skips.pop()[0], axis=1), block, layer, side)
            up: Any
            for up in block.upsamplers:
                side = skips[-1][1]
                sizes = self._constant([self._rows, up.conv.in_channels, side, side])
                how: dict[str, Any] = {
                    "mode": "nearest",
                    "nearest_mode": "floor",
                    "coordinate_transformation_mode": "asymmetric",
                }
                x = self._conv(self._add("Resize", x, "", "", sizes, **how), up.conv)
        return self._conv(self._silu(self._group_norm(x, unet.conv_norm_out, side)), unet.conv_out)

    def _layer(self, x: str, block: Block, layer: int, side: int) -> str:
        x = self._resnet(x, block.resnets[layer], side)
        return self._transformer(x, block.attentions[layer], side) if block.attends else x

    def _resnet(self, x: str, block: nn.Module, side: int) -> str:
        assert isinstance(block, Resnet)
        inside = self._conv(self._silu(self._group_norm(x, block.norm1, side)), block.conv1)
        shifts = self._reshape(self._linear(self._embedded, block.time_emb_proj), self._rows, -1, 1, 1)
        scale, shift = self._add("Split", shifts, axis=1, outputs=2, num_outputs=2)
        scale = self._add("Add", scale, self._constant(torch.ones(1)))
        inside = self._conv(self._silu(self._group_norm(inside, block.norm2, side, scale, shift)), block.conv2)
        return self._add("Add", x if block.conv_shortcut is None else self._conv(x, block.conv_shortcut), inside)

    def _transformer(self, x: str, module: nn.Module, side: int) -> str:
        assert isinstance(module, Transformer)
        block: Any = module.transformer_blocks[0]
        width, count = module.norm.num_channels, side * side
        tokens = self._conv(self._group_norm(x, module.norm, side), module.proj_in)
        tokens = self._reshape(self._add("Transpose", tokens, perm=[0, 2, 3, 1]), -1, width)
        normed = self._layer_norm(tokens, block.norm1)
        tokens = self._add("Add", self._attention(normed, normed, block.attn1, width, count, self._groups()), tokens)
        normed = self._layer_norm(tokens, block.norm2)
        every = [(0, self._rows, 1)]
        tokens = self._add("Add", self._attention(normed, self._text, block.attn2, width, count, every), tokens)
        inside = self._linear(self._layer_norm(tokens, block.norm3), block.ff.net[0].proj)
        inside, gate = self._add("Split", inside, axis=1, outputs=2, num_outputs=2)
        inside = self._linear(self._add("Mul", inside, self._add("Gelu", gate)), block.ff.net[2])
        tokens = self._reshape(self._add("Add", inside, tokens), self._rows, side, side, width)
        picture = self._conv(self._add("Transpose", tokens, perm=[0, 3, 1, 2]), module.proj_out)
        return self._add("Add", picture, x)

    def _layer_norm(self, x: str, norm: nn.LayerNorm) -> str:
        weights = self._constant(norm.weight), self._constant(norm.bias)
        return self._add("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)

    def _groups(self) -> list[tuple[int, int, int]]:
        """First row, last row and rows that attend to each other, of each part of the rows."""
        joint, views = min(self._inputs.joint_rows, self._rows), self._inputs.num_views
        return [part for part in ((0, joint, views), (joint, self._rows, 1)) if part[0] < part[1]]

    def _attention(
        self, x: str, context: str, attn: Any, width: int, count: int, groups: list[tuple[int, int, int]]
    ) -> str:
        """x: [R count,W]; context: those tokens, or the text's [R T,D]."""
        query = self._linear(x, attn.to_q)
        key, value = self._linear(context, attn.to_k), self._linear(context, attn.to_v)
        others = count if context == x else self._inputs.text.shape[1]
        out = []
        for first, last, views in groups:
            parts = []
            for name, tokens in ((query, count), (key, others), (value, others)):
                some = name
                if len(groups) > 1:
                    ends = (self._constant([first * tokens]), self._constant([last * tokens]), self._constant([0]))
                    some = self._add("Slice", name, *ends)
                parts.append(self._reshape(some, (last - first) // views, views * tokens, width))
            joined = self._add("MultiHeadAttention", *parts, domain=MICROSOFT, num_heads=attn.heads)
            out.append(self._reshape(joined, -1, width))
        return self._linear(out[0] if len(out) == 1 else self._add("Concat", *out, axis=0), attn.to_out[0])
