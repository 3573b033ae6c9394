"""Blobs: bytes of any size by name, beside the store or in an object store, behind one interface.

    put -> content, durable -> its name, a commit

blobs.py is the interface; local_blobs.py with blob_names.py the files of a runtime; object_blobs.py a store
like S3.
"""
