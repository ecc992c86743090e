"""The training loop and its parts: schedules, EMA teacher, checkpoints, devices and precision."""
