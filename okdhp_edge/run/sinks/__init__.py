"""Where poses and pictures go, one file for each kind."""
