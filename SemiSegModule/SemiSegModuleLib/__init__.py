"""The parts of the SemiSeg module; each can be tested by itself. Nothing here imports torch."""
