"""
Images: their names, their forms, what is inside, and proof of which one it is.
"""
