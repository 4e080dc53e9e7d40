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
# steps are measured after three to warm up, CASES (all) names those to run, in their order, also repeatedly, MODEL (dim_h_2) and DEVICE (auto) are for trying the script out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/processes.sh"

out=$(realpath -m "${1:?name the file for the results}")
cards=${2:-2}
cases=${CASES:-all} batch=${BATCH:-64} lines=${LINES:-6} model=${MODEL:-dim_h_2} device=${DEVICE:-auto}
read -r -a trainer <<<"${DIM_TRAINER:-cargo run --release -p dim-trainer --}"
# where those beside train
others=()
for ((card = 1; card < cards; ++card)); do
    if [[ $device == auto ]]; then others+=("cuda:$card"); else others+=("$device"); fi
done

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
image_size = 32
in_channels = 4
classes = 1000
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

# measure NAME PROCESSES SETTING…: trains until enough was logged, then ends the processes without saving anything. On each device
# of `beside` another process trains the same meanwhile.
measure() {
    local name=$1 processes=$2 run=$work/$1 setting launcher settings=() running=() place
    shift 2
    for setting in "$@"; do settings+=(--set "$setting"); done
    launcher_of "$processes"
    for place in "${beside[@]}"; do
        "${trainer[@]}" train --config "$work/config.toml" --run "$run-$place" --device "$place" "${settings[@]}" >"$work/$name-$place.txt" 2>&1 &
        running+=($!)
    done
    echo "── $name: $processes processes ${settings[*]}" >&2
    "${launcher[@]}" "${trainer[@]}" train --config "$work/config.toml" --run "$run" --device "$device" \
        --trace "$work/$name.trace.json" --trace-steps 19-24 --set "train.batch_size=$((batch * processes))" "${settings[@]}" >"$work/$name.txt" 2>&1 &
    local started_process=$! started=$SECONDS process
    running+=("$started_process")
    while (($(cat "$run/log.jsonl" 2>/dev/null | wc -l) < warm_up + lines)); do
        if ! kill -0 "$started_process" 2>/dev/null || ((SECONDS - started > ${LIMIT:-240})); then
            tail -40 "$work/$name.txt" >&2
            for process in "${running[@]}"; do kill_tree "$process"; done
            echo "{\"name\": \"$name\", \"processes\": $processes, \"failed\": true}" >>"$out"
            return 0
        fi
        sleep 0.5
    done
    for process in "${running[@]}"; do kill_tree "$process"; done
    wait "${running[@]}" 2>/dev/null || true
    cp "$work/$name.trace.json" "${out%.jsonl}.$name.trace.json" 2>/dev/null || true
    python3 - "$run" "$name" "$processes" "$batch" "$warm_up" "$*" "$work/$name.txt" "${beside[*]}" <<'PYTHON' | tee -a "$out"
import json, pathlib, statistics, sys
run, name, processes, batch, warm_up, settings, printed, beside = sys.argv[1:]
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
    "images_per_s_beside": {
        place: [record["images_per_s"] for record in after_warm_up(f"{run}-{place}")] for place in beside.split()
    },
    "traced_step": traced[0].rsplit("; ", 1)[0] if traced else None,  # behind it is a path that will be gone
}))
PYTHON
    rm -rf "$run" "$run"-*
}

# A process that is killed: torchrun starts all again, and they go on from the last checkpoint by themselves.
elastic() {
    python3 -m torch.distributed.run --standalone --nproc-per-node="$cards" --max-restarts=2 --no-python -- "${trainer[@]}" train \
        --config "$work/config.toml" --run "$work/elastic" --device "$device" --set model.preset=dim_s_2 \
        --set train.images=8000 --set train.checkpoint_every_images=800 --set train.batch_size=$((4 * cards)) \
        --set 'train.distributed.split="gradients"' >"$work/elastic.txt" 2>&1 &
    local launcher=$! started=$SECONDS recovered=false
    while kill -0 "$launcher" 2>/dev/null && (($(ls "$work"/elastic/checkpoints/*.safetensors 2>/dev/null | wc -l) < 2 && SECONDS - started < 120)); do
        sleep 0.2
    done
    pkill -KILL -P "$launcher" -n || true # the youngest process of the launcher: one of the run's
    wait "$launcher" && grep -q "resumed after" "$work/elastic.txt" && recovered=true
    $recovered || tail -40 "$work/elastic.txt" >&2
    echo "{\"name\": \"elastic\", \"processes\": $cards, \"recovered\": $recovered}" | tee -a "$out"
}

# The paper's batch, in pieces: steps are few and long.
paper=('train.batch_size=768' 'train.micro_batch_size=96' 'train.log_every_steps=3')
split='train.distributed.split'
bf16='train.distributed.reduce_in="bf16"'

run_case() {
    local name=$1 warm_up=3 lines=$lines beside=()
    if [[ $name == paper_* ]]; then warm_up=1 lines=3; fi
    if [[ $name == *_beside ]]; then beside=("${others[@]}"); fi
    case $name in
    one | one_beside) measure "$name" 1 ;;
    data_parallel) measure "$name" "$cards" ;;
    bf16_reduction) measure "$name" "$cards" "$bf16" ;;
    split_optimizer) measure "$name" "$cards" "$split=\"optimizer\"" ;;
    split_optimizer_bf16) measure "$name" "$cards" "$split=\"optimizer\"" "$bf16" ;;
    split_gradients) measure "$name" "$cards" "$split=\"gradients\"" ;;
    split_gradients_bf16) measure "$name" "$cards" "$split=\"gradients\"" "$bf16" ;;
    split_parameters) measure "$name" "$cards" "$split=\"parameters\"" ;;
    sequence_parallel) measure "$name" "$cards" "train.distributed.sequence_parallel=$cards" ;;
    recompute_some) measure "$name" 1 'train.recompute_blocks=21' ;;
    recompute_all) measure "$name" 1 'train.recompute_blocks=100' ;;
    paper_batch_one | paper_batch_one_beside) measure "$name" 1 "${paper[@]}" ;;
    paper_batch) measure "$name" "$cards" "${paper[@]}" ;;
    paper_batch_bf16) measure "$name" "$cards" "${paper[@]}" "$bf16" ;;
    paper_batch_split_optimizer) measure "$name" "$cards" "${paper[@]}" "$split=\"optimizer\"" ;;
    elastic) elastic ;;
    *)
        echo "no case is called $name; see run_case in this script" >&2
        exit 2
        ;;
    esac
}

# Cards that were idle are cool and clock higher than after a minute of work: the first case is there to warm them, and one card is measured before, between and after.
if [[ $cases == all ]]; then
    if ((cards > 1)); then
        cases="data_parallel one data_parallel bf16_reduction one split_optimizer split_optimizer_bf16 one split_gradients split_gradients_bf16
            split_parameters sequence_parallel one_beside recompute_some recompute_all paper_batch_one paper_batch paper_batch_bf16
            paper_batch_one paper_batch_split_optimizer paper_batch_one_beside elastic"
    else
        cases="one recompute_some recompute_all one paper_batch_one"
    fi
fi
: >"$out"
for name in $cases; do run_case "$name"; done
