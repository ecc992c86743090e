"""Child processes: started, watched, stopped, explained (no MRML, no Qt)."""
