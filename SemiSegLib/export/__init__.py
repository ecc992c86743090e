"""A trained model for other programs, which need no SemiSeg: `semiseg export`.

network.py         the network alone as TorchScript or ONNX
bundle.py          a MONAI bundle: the network, and what leads from a scan to its mask, as MONAI's configuration
bundle_scripts.py  is copied into bundles: the steps that MONAI has no equal transform for
"""
