"""Images, masks and case lists in; preprocessed volumes, distance maps and patches out."""
