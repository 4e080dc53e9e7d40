# For the scripts beside this one, which source it: starting and ending the processes of one run.

# Ends a process and all that it started: torchrun's processes have sessions of their own.
kill_tree() {
    local child
    for child in $(pgrep -P "$1"); do kill_tree "$child"; done
    kill -KILL "$1" 2>/dev/null || true
}

# launcher_of PROCESSES: sets `launcher` to what starts so many processes of the command behind it; one needs nothing.
launcher_of() {
    launcher=()
    if (($1 > 1)); then
        launcher=(python3 -m torch.distributed.run --standalone --nproc-per-node="$1" --no-python --)
    fi
}
