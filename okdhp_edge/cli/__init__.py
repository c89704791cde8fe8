"""Parse, call one function, print. No logic."""

MODEL_HELP = (
    "Name or path; `lite` and `full` (more exact, slower) come with the package. "
    "Default: the newest export, else `lite`."
)
