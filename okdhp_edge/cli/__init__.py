"""Parse, call one function, print. No logic."""

import os

# Here, before any command imports numpy, which reads it. Arrays are small in this project, and
# threads that OpenBLAS cannot start for want of memory end the process without a word of ours.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


MODEL_HELP = (
    "Name or path; `lite` and `full` (more exact, slower) come with the package. "
    "Default: the newest export, else `lite`."
)
