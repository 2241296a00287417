"""
What takes the place of the modules of DIRAC with the same names.
"""
