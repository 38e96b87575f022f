"""vlt on many machines, by Ray: `data` for corpora, `serve` for traffic. Needs the extra `ray`."""
