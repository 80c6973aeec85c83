"""Before a study runs: what this machine lacks for it, how fast it trains (calibration), and how long it will take (forecast)."""
