"""The command line, `holdfast`.  Needs `holdfast[cli]`.

    arguments -> a command, one file for each group -> a folder or a service (source.py) -> output.py

`root.py` alone knows all commands.
"""
