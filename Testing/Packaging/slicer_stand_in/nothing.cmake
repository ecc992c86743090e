# An extension's package and configuration are not made here.
