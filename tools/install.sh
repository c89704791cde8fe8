#!/bin/sh
# Installs this project with the extras given into .venv, pinned by constraints.txt:
#   tools/install.sh all
# uv does the work, since pip cannot choose PyTorch's build: with TORCH_BACKEND=auto it takes CUDA
# where there is a GPU and otherwise the CPU build, 200 MB in place of 3 GB. Both come from PyTorch's
# own index. TORCH_BACKEND=index takes torch from the package index like everything else.
set -eu
cd "$(dirname "$0")/.."
extras=$1
python=.venv/bin/python
# One that was begun without Debian's python3-venv, or interrupted, has no pip.
"$python" -c 'import pip' 2> /dev/null || "$python" -c 'import uv' 2> /dev/null ||
    "${PYTHON:-python3}" -m venv --clear .venv
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
"$python" -c 'import uv' 2> /dev/null || pip install --quiet -c constraints.txt uv

# The system's certificates, as pip has them; the second name is that of newer releases.
export UV_NATIVE_TLS=1 UV_SYSTEM_CERTS=1
# What pip was configured with holds for uv too.
setting() { pip config list 2> /dev/null | sed -n "s/^[^=]*\.$1='\(.*\)'$/\1/p" | tail -n 1; }
links=$(setting find-links)
index=$(setting index-url)
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
[ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$links}"
# A folder of wheels is there because torch is to come out of it.
backend=${TORCH_BACKEND:-$([ -n "${UV_FIND_LINKS:-}" ] && echo index || echo auto)}

set -- --quiet --no-config --python "$python" -c constraints.txt -e ".[$extras]"
# Tests start hundreds of processes; where Python may not write bytecode, each would compile torch.
[ "$extras" != dev ] || set -- --compile-bytecode "$@"
if [ "$backend" = index ]; then
    if [ -z "${UV_FIND_LINKS:-}" ] && [ "$(uname -sm)" = "Linux x86_64" ] &&
        ! command -v nvidia-smi > /dev/null && ! "$python" -c 'import torch' 2> /dev/null; then
        echo "no NVIDIA GPU, but the package index has torch with CUDA only: 3 GB to download, 6 GB on disk; TORCH_BACKEND=cpu takes 200 MB from PyTorch's index" >&2
    fi
    exec "$python" -m uv pip install "$@"
fi
"$python" -m uv pip install --torch-backend "$backend" "$@" || {
    echo "install failed; if PyTorch's index cannot be reached, TORCH_BACKEND=index takes torch from the package index (on Linux x86-64 with CUDA: 3 GB to download, 6 GB on disk)" >&2
    exit 1
}
