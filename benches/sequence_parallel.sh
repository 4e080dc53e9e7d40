#!/usr/bin/env bash
# One image by one and by several GPUs of one machine: seconds of a step (one call of the network), memory of the fullest card, and how far the
# drawn latents are apart. DiM-H/2 with the weights that training would start from, at 2048 and 4096 px in the precision of sampling, and at 512 px in
# f32, where the two must agree to rounding. One JSON object a line.
#
#   benches/sequence_parallel.sh OUT.jsonl [CARDS]        CARDS: 2 unless said otherwise
#
# Needs python3 with torch (its torchrun starts the processes). DIM_TRAINER says how to start the program: `cargo run --release -p dim-trainer --` by
# default, `./run dim-trainer` in a bundle. STEPS (6) is how many steps are drawn, the first of which is not counted; SIZES ("2048 4096") are the sides
# in pixels; GRAPHS (on) is off for kernels that are launched one by one, by which one step fewer is left out; MODEL (dim_h_2_512) and DEVICE (auto) are for trying the script out; LIMIT (120) is how many seconds a run may take.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"

out=$(realpath -m "${1:?name the file for the results}")
cards=${2:-2}
graphs=${GRAPHS:-on} steps=${STEPS:-6} model=${MODEL:-dim_h_2_512} device=${DEVICE:-auto}
read -r -a sizes <<<"${SIZES-2048 4096}"
read -r -a trainer <<<"${DIM_TRAINER:-cargo run --release -p dim-trainer --}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for precision in auto f32; do
    cat >"$work/$precision.toml" <<TOML
[model]
preset = "$model"
in_channels = 4
classes = 1000
[data]
source = "features"
path = "$work"
[autoencoder]
kind = "kl_f8"
[diffusion]
schedule = "sd"
class_dropout = 0.1
[train]
images = 1
batch_size = 1
lr = 1e-4
warmup_images = 1000
beta1 = 0.99
beta2 = 0.99
eps = 1e-15
weight_decay = 0.03
clip_norm = 1.0
ema_decay = 0.9999
random_flip = false
checkpoint_every_images = 1
log_every_steps = 1
precision = "$precision"
TOML
done

# draw NAME PROCESSES SIZE PRECISION: draws one latent into NAME.safetensors, and appends what it took to the results.
draw() {
    local name=$1 processes=$2 size=$3 precision=$4 launcher
    launcher_of "$processes"
    echo "── $name: $size px, $precision, $processes processes" >&2
    "${launcher[@]}" "${trainer[@]}" sample --untrained --config "$work/$precision.toml" --device "$device" --size "${size}x$size" \
        --class 7 --count 1 --batch-size 1 --sampler ddim --steps "$steps" --cfg-scale 1 --sequence-parallel --cuda-graphs "$graphs" \
        --latents "$work/$name.safetensors" --json --time-steps >"$work/$name.json" 2>"$work/$name.txt" &
    local started_process=$! started=$SECONDS
    while kill -0 "$started_process" 2>/dev/null && ((SECONDS - started <= ${LIMIT:-120})); do sleep 0.2; done
    kill_tree "$started_process"
    if ! wait "$started_process" || [[ ! -s "$work/$name.json" ]]; then
        tail -40 "$work/$name.txt" >&2
        echo "{\"name\": \"$name\", \"processes\": $processes, \"failed\": true}" | tee -a "$out"
        return 0
    fi
    python3 - "$work" "$name" "$processes" "$size" "$precision" "$graphs" <<'PYTHON' | tee -a "$out"
import json, pathlib, statistics, struct, sys
work, name, processes, size, precision, graphs = sys.argv[1:]
# A graph is recorded at the second call.
first = 2 if graphs == "on" else 1
work = pathlib.Path(work)
drawn = json.loads((work / f"{name}.json").read_text().strip().splitlines()[-1])
steps = drawn["step_seconds"][first:]

def latents(name):
    bytes = (work / f"{name}.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", bytes[:8])
    start, end = json.loads(bytes[8 : 8 + length])["latents"]["data_offsets"]
    return memoryview(bytes)[8 + length + start : 8 + length + end].cast("f")

line = {
    "name": name, "processes": int(processes), "size": int(size), "precision": drawn["parameters"]["precision"], "graphs": graphs,
    "step_s": statistics.median(steps), "fastest_s": min(steps), "slowest_s": max(steps), "steps": len(steps),
    "peak_memory_bytes": drawn.get("peak_memory_bytes"), "whole_s": drawn["seconds"],
}
alone = name.rsplit("-", 1)[0] + "-1"
if alone != name and (work / f"{alone}.safetensors").exists():
    one, other = latents(alone), latents(name)
    line["largest_value"] = max(map(abs, one))
    line["largest_difference"] = max(abs(a - b) for a, b in zip(one, other))
    line["mean_difference"] = statistics.fmean(abs(a - b) for a, b in zip(one, other))
    of_one = json.loads((work / f"{alone}.json").read_text().strip().splitlines()[-1])["step_seconds"][first:]
    line["speed_up"] = statistics.median(of_one) / statistics.median(steps)
print(json.dumps(line))
PYTHON
}

: >"$out"
for size in "${sizes[@]}"; do
    for processes in 1 "$cards"; do draw "$size-$processes" "$processes" "$size" auto; done
done
for processes in 1 "$cards"; do draw "f32-$processes" "$processes" "${EXACT_SIZE:-512}" f32; done
