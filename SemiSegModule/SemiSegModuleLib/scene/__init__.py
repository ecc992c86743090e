"""The work as it stands in the scene (MRML, no Qt), and between the scene and files."""
