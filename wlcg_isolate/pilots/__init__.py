"""
One module per pilot framework: its own settings in, a request and policy out.
"""
