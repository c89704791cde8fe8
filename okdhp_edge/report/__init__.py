"""Reports of runs: compared side by side, and the pages that show them."""
