"""What lies below the domain: writing files whole, the machine, clocks and latency statistics."""
