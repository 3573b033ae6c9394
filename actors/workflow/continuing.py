"""Continue as new: a run begins anew under its id, with other input and an empty history.

`self.continue_as_new(input)` raises `ContinueAsNew` through `run()`; at its end the old history is erased and
the new start is recorded, in one commit.  Events that nobody waited for yet are kept.
"""

from __future__ import annotations


class ContinueAsNew(BaseException):
    """Ends `run()`; no `except Exception` of user code holds it up."""

    def __init__(self, encoded_input: bytes, decoded_input: object) -> None:
        self.encoded_input = encoded_input
        self.decoded_input = decoded_input
        super().__init__("run() continues as new")
