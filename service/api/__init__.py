"""The endpoints of the HTTP service, a file for each kind of thing; `../app.py` alone knows all of them."""
