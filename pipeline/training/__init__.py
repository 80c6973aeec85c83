"""Training networks: what is drawn, the schedule, the loop, and how it goes on after an interruption."""
