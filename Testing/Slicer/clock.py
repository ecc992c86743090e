"""What work takes, for the scripts that measure it."""

import time


class Clock:
    """Prints processor time of this process, which others on the machine do not lengthen, and the time on the wall; of
    one of several `times` that are set within."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.cpu, self.wall = time.process_time(), time.perf_counter()
        self.times = 1
        return self

    def __exit__(self, *_):
        cpu = (time.process_time() - self.cpu) / self.times * 1000
        wall = (time.perf_counter() - self.wall) / self.times * 1000
        print(f"{self.what:<52}{cpu:9.1f} ms of processor time {wall:9.1f} ms", flush=True)
