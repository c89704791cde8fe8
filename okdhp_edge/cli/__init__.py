"""Command line: every command parses its options, calls one function and prints the result."""

import os

# Set before any command imports numpy. Arrays are small in this project, and OpenBLAS aborts the
# process if there is not enough memory to start its threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


MODEL_HELP = (
    "Model name or path; `lite` (fastest), `full` (best on sports) and `large` (highest COCO AP, "
    "float only) ship with the package. Default: the newest export, or else `lite`."
)
CLUSTER_HELP = "Address of a Ray cluster, or `local`. Default: processes, without Ray."
