#!/usr/bin/env bash
# Training on one and on several GPUs of one machine: images a second, memory of the fullest card, with nothing split, with the
# optimiser's state, or gradients and weights too, split, with every image shared by all, and with the paper's batch of 768 images; and what recomputing saves
# one card. DiM-H/2 on 256 px, as latents that are made up. One JSON object a line; beside it the trace of six steps of each, for ui.perfetto.dev.
# What cards take from each other without a word between them (power, air, the host) is in the cases "beside": one card, while another trains a network of its own.
#
#   benches/distributed.sh OUT.jsonl [CARDS]        CARDS: 2 unless said otherwise
#
# Needs python3 with torch (its torchrun starts the processes) and numpy. DIM_TRAINER says how to start the program: `cargo run --release
# -p dim-trainer --` by default, `./run dim-trainer` in a bundle. BATCH (64) is the images of a card, LINES (6) how many records of ten
# steps are measured after three to warm up, CASES (all) names those to run, MODEL (dim_h_2) and DEVICE (auto) are for trying the script out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"

out=$(realpath -m "${1:?name the file for the results}")
cards=${2:-2}
cases=${CASES:-all} batch=${BATCH:-64} lines=${LINES:-6} model=${MODEL:-dim_h_2} device=${DEVICE:-auto}
read -r -a trainer <<<"${DIM_TRAINER:-cargo run --release -p dim-trainer --}"
warm_up=3
second=$device # where the process beside trains
if [[ $device == auto ]]; then second=cuda:1; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 - "$work/latents" <<'PYTHON'
import sys, pathlib, numpy
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
random = numpy.random.default_rng(0)
for number in range(512):
    mean = random.standard_normal((4, 32, 32), dtype=numpy.float32) * 5
    moments = numpy.concatenate([mean, numpy.full((4, 32, 32), -8, numpy.float32)])
    numpy.savez(folder / f"{number}.npy.npz", z=moments, label=number % 1000)
PYTHON

cat >"$work/config.toml" <<TOML
[model]
preset = "$model"
[data]
source = "features"
path = "$work/latents"
[autoencoder]
kind = "kl_f8"
[diffusion]
schedule = "sd"
class_dropout = 0.1
[train]
images = 100_000_000
batch_size = $batch
lr = 1e-4
warmup_images = 1000
beta1 = 0.99
beta2 = 0.99
eps = 1e-15
weight_decay = 0.03
clip_norm = 1.0
ema_decay = 0.9999
random_flip = false
checkpoint_every_images = 100_000_000
log_every_steps = 10
TOML

# wanted CASE: whether it is to be run.
wanted() { [[ $cases == all || " $cases " == *" $1 "* ]]; }

# measure NAME PROCESSES SETTING…: trains until enough was logged, then ends the processes without saving anything. With `beside` set
# to a device, another process trains the same there meanwhile.
measure() {
    local name=$1 processes=$2 run=$work/$1 setting launcher settings=() other=
    wanted "$name" || return 0
    shift 2
    for setting in "$@"; do settings+=(--set "$setting"); done
    launcher_of "$processes"
    if [[ ${beside:-} ]]; then
        "${trainer[@]}" train --config "$work/config.toml" --run "$run-beside" --device "$beside" "${settings[@]}" >"$work/$name-beside.txt" 2>&1 &
        other=$!
    fi
    echo "── $name: $processes processes ${settings[*]}" >&2
    "${launcher[@]}" "${trainer[@]}" train --config "$work/config.toml" --run "$run" --device "$device" \
        --trace "$work/$name.trace.json" --trace-steps 19-24 --set "train.batch_size=$((batch * processes))" "${settings[@]}" >"$work/$name.txt" 2>&1 &
    local started_process=$! started=$SECONDS process
    while (($(cat "$run/log.jsonl" 2>/dev/null | wc -l) < warm_up + lines)); do
        if ! kill -0 "$started_process" 2>/dev/null || ((SECONDS - started > ${LIMIT:-240})); then
            tail -40 "$work/$name.txt" >&2
            for process in $started_process $other; do kill_tree "$process"; done
            echo "{\"name\": \"$name\", \"processes\": $processes, \"failed\": true}" >>"$out"
            return 0
        fi
        sleep 0.5
    done
    for process in $started_process $other; do kill_tree "$process"; done
    wait $started_process $other 2>/dev/null || true
    cp "$work/$name.trace.json" "${out%.jsonl}.$name.trace.json" 2>/dev/null || true
    python3 - "$run" "$name" "$processes" "$batch" "$warm_up" "$*" "$work/$name.txt" <<'PYTHON' | tee -a "$out"
import json, pathlib, statistics, sys
run, name, processes, batch, warm_up, settings, printed = sys.argv[1:]
def after_warm_up(run):
    log = pathlib.Path(run) / "log.jsonl"
    return [json.loads(line) for line in open(log)][int(warm_up):] if log.exists() else []
records = after_warm_up(run)
speeds = [record["images_per_s"] for record in records]
traced = [line.strip() for line in open(printed, errors="replace") if "communication" in line]
print(json.dumps({
    "name": name, "processes": int(processes), "batch_per_card": int(batch), "settings": settings.split(),
    "images_per_s": statistics.median(speeds), "slowest": min(speeds), "fastest": max(speeds), "records": len(speeds),
    "peak_memory_bytes": records[-1].get("peak_memory_bytes"), "loss": records[-1]["loss"],
    "images_per_s_beside": [record["images_per_s"] for record in after_warm_up(run + "-beside")],
    "traced_step": traced[0] if traced else None,
}))
PYTHON
    rm -rf "$run" "$run-beside"
}

: >"$out"
measure one 1
if ((cards > 1)); then beside=$second measure one_beside 1; fi
measure data_parallel "$cards"
measure bf16_reduction "$cards" 'train.distributed.reduce_in="bf16"'
measure split_optimizer "$cards" 'train.distributed.split="optimizer"'
measure split_optimizer_bf16 "$cards" 'train.distributed.split="optimizer"' 'train.distributed.reduce_in="bf16"'
measure split_gradients "$cards" 'train.distributed.split="gradients"'
measure split_gradients_bf16 "$cards" 'train.distributed.split="gradients"' 'train.distributed.reduce_in="bf16"'
measure split_parameters "$cards" 'train.distributed.split="parameters"'
measure sequence_parallel "$cards" "train.distributed.sequence_parallel=$cards"
measure recompute_some 1 'train.recompute_blocks=21'
measure recompute_all 1 'train.recompute_blocks=100'

# The paper's batch, in pieces: steps are few and long.
paper=('train.batch_size=768' 'train.micro_batch_size=96' 'train.log_every_steps=3')
warm_up=1 lines=3
measure paper_batch_one 1 "${paper[@]}"
if ((cards > 1)); then beside=$second measure paper_batch_one_beside 1 "${paper[@]}"; fi
measure paper_batch "$cards" "${paper[@]}"
measure paper_batch_bf16 "$cards" "${paper[@]}" 'train.distributed.reduce_in="bf16"'
measure paper_batch_split_optimizer "$cards" "${paper[@]}" 'train.distributed.split="optimizer"'

# A process that is killed: torchrun starts all again, and they go on from the last checkpoint by themselves.
if ((cards > 1)) && wanted elastic; then
    python3 -m torch.distributed.run --standalone --nproc-per-node="$cards" --max-restarts=2 --no-python -- "${trainer[@]}" train \
        --config "$work/config.toml" --run "$work/elastic" --device "$device" --set model.preset=dim_s_2 \
        --set model.image_size=32 --set model.in_channels=4 --set model.classes=1000 \
        --set train.images=8000 --set train.checkpoint_every_images=800 --set train.batch_size=$((4 * cards)) \
        --set 'train.distributed.split="gradients"' >"$work/elastic.txt" 2>&1 &
    launcher=$! started=$SECONDS
    while (($(ls "$work"/elastic/checkpoints/*.safetensors 2>/dev/null | wc -l) < 2 && SECONDS - started < 120)); do sleep 0.2; done
    pkill -KILL -P "$launcher" -n || true # the youngest process of the launcher: one of the run's
    recovered=false
    wait "$launcher" && grep -q "resumed after" "$work/elastic.txt" && recovered=true
    $recovered || tail -40 "$work/elastic.txt" >&2
    echo "{\"name\": \"elastic\", \"processes\": $cards, \"recovered\": $recovered}" | tee -a "$out"
fi
