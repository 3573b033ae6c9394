"""What `holdfast new` writes: each file but `new_file.py` is one template, a program with its tests."""
