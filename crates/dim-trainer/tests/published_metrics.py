"""Metrics of two folders of images by the packages that papers use, as one JSON object: pytorch-fid, torch-fidelity, prdc.

    python published_metrics.py IMAGES REFERENCE INCEPTION.pth [--batch-size N] [--device cuda] [--speed] [--make N]

With --speed: only how many images of IMAGES a second pytorch-fid turns into statistics. With --make: first writes N images of waves and
noise, 256 x 256, to each folder. Needs
    pip install torch==2.11.0 torchvision==0.26.0 'scipy<1.18' scikit-learn
    pip install --no-deps pytorch-fid==0.3.0 torch-fidelity==0.4.0 prdc==0.2
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time

import numpy as np
import torch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("reference")
    parser.add_argument("weights")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--make", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.make:
        make(arguments.images, arguments.make, seed=1, tint=0)
        make(arguments.reference, arguments.make, seed=2, tint=20)
    with contextlib.redirect_stdout(sys.stderr):  # the packages print
        result = speed(arguments) if arguments.speed else metrics(arguments)
    print(json.dumps(result))


def make(folder, count, seed, tint, side=256):
    from PIL import Image

    pathlib.Path(folder).mkdir(parents=True)
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    for number in range(count):
        turns, phases, slopes = random.uniform(0.02, 0.6, 3), random.uniform(0, 6, 3), random.uniform(-1, 1, 3)
        waves = [127 + tint + 100 * np.sin(turn * (x + slope * y) + phase) for turn, phase, slope in zip(turns, phases, slopes)]
        pixels = np.stack(waves, -1) + random.normal(0, 12, (side, side, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(f"{folder}/{number:06}.png")


def fid_network(arguments):
    import pytorch_fid.inception as inception

    # The package downloads its weights; these are read instead.
    inception.load_state_dict_from_url = lambda *_, **__: torch.load(arguments.weights)
    return inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).to(arguments.device)


def files(folder):
    return sorted(pathlib.Path(folder).rglob("*.png"))


def speed(arguments):
    from pytorch_fid import fid_score

    network = fid_network(arguments)
    names = files(arguments.images)
    run = lambda names: fid_score.calculate_activation_statistics(
        names, network, arguments.batch_size, 2048, arguments.device, arguments.workers
    )
    run(names[: 2 * arguments.batch_size])  # warm
    start = time.perf_counter()
    run(names)
    seconds = time.perf_counter() - start
    return {"images": len(names), "seconds": seconds, "images_per_s": len(names) / seconds}


def metrics(arguments):
    import torch_fidelity
    from prdc import compute_prdc
    from pytorch_fid import fid_score

    network = fid_network(arguments)
    options = (network, arguments.batch_size, 2048, arguments.device, 1)
    activations = [fid_score.get_activations(files(folder), *options) for folder in (arguments.images, arguments.reference)]
    moments = [(np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in activations]
    fid = fid_score.calculate_frechet_distance(*moments[0], *moments[1])
    count = min(len(x) for x in activations)
    fidelity = torch_fidelity.calculate_metrics(
        input1=arguments.images,
        input2=arguments.reference,
        cuda=arguments.device != "cpu",
        isc=True,
        fid=True,
        kid=True,
        isc_splits=1,
        kid_subsets=1,
        kid_subset_size=count,
        feature_extractor_weights_path=arguments.weights,
        batch_size=arguments.batch_size,
        samples_find_deep=True,
        samples_shuffle=False,
        cache=False,
        verbose=False,
    )
    return {
        "pytorch_fid": {"fid": float(fid)},
        "torch_fidelity": {
            "fid": fidelity["frechet_inception_distance"],
            "inception_score": fidelity["inception_score_mean"],
            "kid": fidelity["kernel_inception_distance_mean"],
        },
        "prdc": {str(k): compute_prdc(activations[1], activations[0], k) for k in (3, 5)},
    }


if __name__ == "__main__":
    main()
