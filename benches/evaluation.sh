#!/usr/bin/env bash
# Metrics and speed of `dim-trainer eval` beside pytorch-fid, torch-fidelity and prdc, on the same images, weights and machine. No network.
#
#   benches/evaluation.sh FOLDER [DEVICE] [IMAGES] [BATCH]      such as: benches/evaluation.sh /tmp/evaluation cuda 5000 64
#
# PROGRAM, WEIGHTS_PROGRAM and PYTHON name dim-trainer, the example procedural_inception and an interpreter with the packages
# (tests/published_metrics.py of dim-trainer says which); by default those of this checkout, and python3. WORKERS (1): processes in which
# pytorch-fid reads images. REPEAT (1): how often each image is in the folder whose speed is measured, by hard links.
set -euo pipefail
folder=$1 device=${2:-cpu} images=${3:-100} batch=${4:-50}
root=$(cd "$(dirname "$0")/.." && pwd)
program=${PROGRAM:-$root/target/release/dim-trainer}
weights_program=${WEIGHTS_PROGRAM:-$root/target/release/examples/procedural_inception}
python=${PYTHON:-python3}
script=$root/crates/dim-trainer/tests/published_metrics.py
mkdir -p "$folder"
cd "$folder"
[ -e inception.pth ] || "$weights_program" inception.pth
make=(); [ -d images ] || make=(--make "$images")
published_of() {
    "$python" "$script" "$1" reference inception.pth --device "$device" --batch-size "$batch" --workers "${WORKERS:-1}" "${@:2}"
}
ours_of() {
    "$program" eval --json --device "$device" --images "$1" --features inception --weights inception.pth --batch-size "$batch" "${@:2}"
}
published() { published_of images "$@"; }
ours() { ours_of images "$@"; }
((${#make[@]} == 0)) || published --speed "${make[@]}" >/dev/null
mkdir -p many
for ((copy = 0; copy < ${REPEAT:-1}; ++copy)); do
    [ -d "many/$copy" ] || cp -al images "many/$copy"
done
echo "== pytorch-fid, images a second, three times"
for _ in 1 2 3; do published_of many --speed; done
echo "== dim-trainer, images a second (in images_per_s), three times"
for _ in 1 2 3; do ours_of many --save-statistics statistics.safetensors; done
if [[ $device == cuda* ]]; then
    echo "== dim-trainer in TF32, as pytorch-fid is on a GPU"
    for _ in 1 2 3; do ours_of many --save-statistics statistics.safetensors --tf32; done
fi
echo "== the packages' metrics"
published
metrics=(--reference reference --metrics fd,sfid,is,kid,pr,dc --score-parts 1 --kid-subsets 1 --kid-subset-size "$images")
echo "== dim-trainer's, resized as pytorch-fid does (pytorch_fid, prdc)"
ours "${metrics[@]}"
echo "== dim-trainer's, resized as TensorFlow 1 did (torch_fidelity)"
ours --preprocessing tensorflow "${metrics[@]}"
