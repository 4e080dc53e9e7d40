"""Writes golden/dinov2_*.safetensors and golden/full_dinov2.safetensors with transformers' Dinov2Model.

    python crates/dim-eval/tests/dinov2_golden.py golden

Made with torch 2.11.0 and transformers 5.24.0 on the CPU. Weights are computed from their published names by the rule of
crates/dim-model/src/procedural.rs. One thing is not transformers': it resizes positions to 16 / 37, the published network, with which
FD-DINOv2 is defined, to 16.1 / 37 (`interpolate_offset`), so that is done here. The script prints by how much the two differ.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from golden_support import pattern, weights

SEED = 2304
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
transformers_positions = Dinov2Embeddings.interpolate_pos_encoding


def published_positions(self, embeddings, height, width):
    table, side = self.position_embeddings.float(), self.config.image_size // self.config.patch_size
    rows, columns = height // self.config.patch_size, width // self.config.patch_size
    patches = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((rows + 0.1) / side, (columns + 0.1) / side)
    patches = torch.nn.functional.interpolate(patches, scale_factor=factors, mode="bicubic")
    assert patches.shape[-2:] == (rows, columns)
    patches = patches.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
    return torch.cat([table[:, :1], patches], 1).to(embeddings.dtype)


def computed(name, shape):
    """By the rule of crates/dim-model/src/procedural.rs."""
    if "norm" in name and name.endswith("weight"):
        centre, half = 1.0, 0.3
    elif name.endswith(".gamma"):
        centre, half = 0.5, 0.4
    elif name == "pos_embed":
        centre, half = 0.0, 0.8
    elif name.endswith("bias"):
        centre, half = 0.0, 0.1
    else:
        centre, half = 0.0, (3 / np.prod(shape[1:], dtype=np.float64)) ** 0.5
    return weights(name, shape, SEED, centre, half)


def shapes(config, hidden):
    """Published names and shapes."""
    width, patch = config.hidden_size, config.patch_size
    all = {
        "cls_token": [1, 1, width],
        "mask_token": [1, width],
        "pos_embed": [1, 1 + (config.image_size // patch) ** 2, width],
        "patch_embed.proj.weight": [width, 3, patch, patch],
        "patch_embed.proj.bias": [width],
    }
    linears = [("attn.qkv", 3 * width, width), ("attn.proj", width, width)]
    if config.use_swiglu_ffn:
        linears += [("mlp.w12", 2 * hidden, width), ("mlp.w3", width, hidden)]
    else:
        linears += [("mlp.fc1", hidden, width), ("mlp.fc2", width, hidden)]
    for block in range(config.num_hidden_layers):
        for name, outputs, inputs in linears:
            all[f"blocks.{block}.{name}.weight"] = [outputs, inputs]
            all[f"blocks.{block}.{name}.bias"] = [outputs]
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1.gamma", "ls2.gamma"]:
            all[f"blocks.{block}.{name}"] = [width]
    return all | {"norm.weight": [width], "norm.bias": [width]}


def for_transformers(weights):
    """The same under the names of a file such as facebook/dinov2-large."""
    renamed = {}
    for name, tensor in weights.items():
        for ours, theirs in [
            ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("cls_token", "embeddings.cls_token"),
            ("mask_token", "embeddings.mask_token"),
            ("blocks.", "encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("ls1.gamma", "layer_scale1.lambda1"),
            ("ls2.gamma", "layer_scale2.lambda1"),
            ("w12", "weights_in"),
            ("w3", "weights_out"),
        ]:
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = f"layer{name}"
        if "attn.qkv" in name:
            for part, rows in zip(["query", "key", "value"], tensor.chunk(3)):
                renamed[name.replace("attn.qkv", f"attention.attention.{part}")] = rows.clone()
        else:
            renamed[name] = tensor
    return renamed


def loaded(config, weights):
    """transformers' network, from a file."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        save_file(for_transformers(weights), f"{folder}/model.safetensors", {"format": "pt"})
        model, report = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def write(path, rows, columns, kept, hidden, **config):
    config = Dinov2Config(patch_size=14, mlp_ratio=4, hidden_act="gelu", layer_norm_eps=1e-6, qkv_bias=True, **config)
    Dinov2Embeddings.interpolate_pos_encoding = published_positions
    made = {name: computed(name, shape) for name, shape in shapes(config, hidden).items()}
    model = loaded(config, made)
    pixels = pattern(rows, columns)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    prepared = (pixels.float() / 255 - mean) / deviation
    tensors = {"pixels": pixels, "prepared.sample": prepared[:, :, ::13, ::13]}

    # Its own list of hidden states ends with the norm's output.
    states = {}
    model.embeddings.register_forward_hook(lambda module, given, found: states.update(tokens=found))
    for number, layer in enumerate(model.encoder.layer):
        layer.register_forward_hook(lambda module, given, found, name=f"block.{number}": states.update({name: found}))

    def run(x):
        with torch.no_grad():
            return model(x).pooler_output

    tensors["features"] = run(prepared)
    positions = published_positions(model.embeddings, torch.zeros(1), rows, columns)
    tensors["positions.sample"] = positions[:, ::3, ::8]
    Dinov2Embeddings.interpolate_pos_encoding = transformers_positions
    others = run(prepared)
    Dinov2Embeddings.interpolate_pos_encoding = published_positions
    model.double()
    exact = run(prepared.double())
    tensors["f64.features"] = exact
    for number, (name, state) in enumerate(states.items()):
        tensors[f"rms.{name}"] = state.square().mean().sqrt().view(1)
        if number in kept:
            tensors[f"f64.class.{name}"] = state[:, 0]
    for name in ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.1.ls1.gamma", "norm.weight"]:
        tensors[f"probe.{name}"] = made[name].flatten()[:4].clone()
    tensors["n_params"] = torch.tensor([sum(tensor.numel() for name, tensor in made.items() if name != "mask_token")])
    sizes = {
        "seed": SEED,
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "hidden": hidden,
        "feed_forward": "swiglu" if config.use_swiglu_ffn else "mlp",
        "patch": config.patch_size,
        "learnt_side": config.image_size // config.patch_size,
    }
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {key: str(value) for key, value in sizes.items()})
    largest = lambda x: x.abs().max().item()
    print(path.name, "f32 against f64:", largest(tensors["features"] - exact), "of", largest(exact))
    print("  rms of the tokens, last:", largest(tensors[f"rms.block.{config.num_hidden_layers - 1}"]))
    print("  with transformers' positions:", largest(others - exact), "cosine", torch.cosine_similarity(others, exact.float()).min().item())


folder = Path(sys.argv[1])
small = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70}
write(folder / "dinov2_tiny.safetensors", 56, 84, {0, 1, 2}, 512, **small)
write(folder / "dinov2_tiny_swiglu.safetensors", 56, 84, {0, 1, 2}, 344, use_swiglu_ffn=True, **small)
large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518}
write(folder / "full_dinov2.safetensors", 224, 224, {0, 6, 12, 18, 24}, 4096, **large)
