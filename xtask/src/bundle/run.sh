#!/usr/bin/env bash
# Starts what `cargo xtask bundle` gathered, on a machine with libtorch but without Rust. `./run` says how.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
torch_version=2.11.0

# compute-sanitizer makes kernels ten to a thousand times slower, and leaves no room for a profiler: tests with one of these words in
# their names, or in that of a module around them, are left to the plain run.
left_out=(large long profile)
sanitizer_tools=(memcheck racecheck initcheck)

usage() {
    cat <<'END'
./run dim-trainer ARGUMENT…         the program
./run tests [--sanitizer] [FILTER]  every test of the GPU; --sanitizer: under compute-sanitizer (memcheck, racecheck, initcheck)
./run bench NAME [ARGUMENT…]        a benchmark; without NAME: says which there are
./run bench-scaling ARGUMENT…       whole networks against each other as images grow: run.jsonl, summary.md, report.html

libtorch is $LIBTORCH, or else the torch of `python3`. Without a GPU the tests skip, by name and aloud.
END
}

die() {
    echo "error: $*" >&2
    exit 1
}

# Lets programs find libtorch and CUDA's libraries, which pip puts beside it.
find_libraries() {
    local torch=${LIBTORCH-}
    if [[ -z $torch ]]; then
        torch=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
            die "no libtorch: set LIBTORCH to the folder of libtorch $torch_version, or \`python3 -m pip install torch==$torch_version\`"
    fi
    [[ -e $torch/lib/libtorch_cpu.so ]] || die "$torch holds no libtorch"
    grep -qsF "$torch_version" "$torch"/version.py "$torch"/build-version ||
        die "the libtorch in $torch is not version $torch_version"
    local path=$torch/lib folder
    for folder in "$torch"/../nvidia/*/lib; do
        [[ -d $folder ]] && path+=:$folder
    done
    export LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

has_gpu() { [[ -e /dev/nvidiactl ]] || nvidia-smi -L >/dev/null 2>&1; }

find_sanitizer() {
    local place
    for place in compute-sanitizer "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" /usr/local/cuda/compute-sanitizer/compute-sanitizer; do
        command -v "$place" && return
    done
    die "no compute-sanitizer, which is part of CUDA's toolkit: put it on PATH or set CUDA_HOME"
}

tests() {
    local sanitizer= tool program name start failed=() tools=(none) command options
    if [[ ${1-} == --sanitizer ]]; then
        shift
        if has_gpu; then
            sanitizer=$(find_sanitizer)
            tools=("${sanitizer_tools[@]}")
        else
            echo "compute-sanitizer: skipped: no CUDA device"
        fi
    fi
    # Where there is a GPU, no test may pass by skipping.
    has_gpu && export DIM_REQUIRE_CUDA=${DIM_REQUIRE_CUDA-1}
    for tool in "${tools[@]}"; do
        for program in "$here"/tests/*/*; do
            name=$(basename "$(dirname "$program")")/$(basename "$program")
            command=("$program" "$@") options=()
            if [[ $tool != none ]]; then
                name="$tool: $name"
                # Some programs test what is refused before the GPU is touched.
                options=(--tool "$tool" --error-exitcode 99 --print-limit 20 --require-cuda-init no)
                # Libraries ask for what a device may not have, and a test for what cannot be recorded: no faults of memory.
                [[ $tool == memcheck ]] && options+=(--report-api-errors no)
                # The sanitizer slows what runs side by side even more, and its report would not say which test it is about.
                command+=(--test-threads=1)
                local word
                for word in "${left_out[@]}"; do command+=(--skip "$word"); done
                command=("$sanitizer" "${options[@]}" "${command[@]}")
            fi
            echo
            echo "── $name"
            start=$SECONDS
            # As cargo does: tests find the golden files relative to their package's folder.
            if ! (cd "$(dirname "$program")" && CARGO_MANIFEST_DIR=$PWD "${command[@]}"); then
                failed+=("$name")
            fi
            echo "$name: $((SECONDS - start)) s"
        done
    done
    echo
    if ((${#failed[@]})); then
        printf 'FAILED: %s\n' "${failed[@]}"
        return 1
    fi
    echo "all GPU tests passed$(has_gpu || echo " or skipped: there is no GPU")"
}

bench() {
    local names=()
    mapfile -t names < <(ls "$here/benches" 2>/dev/null)
    if [[ -z ${1-} || ! -x $here/benches/$1 ]]; then
        echo "benchmarks: ${names[*]}"
        [[ -z ${1-} ]] && return
        die "there is no benchmark \`$1\`"
    fi
    local name=$1
    shift
    export CRITERION_HOME=${CRITERION_HOME-$here/criterion}
    exec "$here/benches/$name" --bench "$@"
}

case ${1-} in
dim-trainer | bench-scaling)
    find_libraries
    exec "$here/bin/$1" "${@:2}"
    ;;
tests)
    find_libraries
    shift
    tests "$@"
    ;;
bench)
    find_libraries
    shift
    bench "$@"
    ;;
*)
    usage
    [[ ${1-} == -h || ${1-} == --help ]] || exit 2
    ;;
esac
