"""`python -m okdhp_edge`: the same as `okdhp-edge`."""

from okdhp_edge.cli.main import main

main()
