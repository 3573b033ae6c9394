"""The import of books with live progress: metadata, cover, embedding, save; one run for each import.

    POST /v2/import/workflow -> BookImport: fetch-metadata -> upload-cover
                                             -> generate-embedding -> save-to-database
                                    each told by emit, and by a message of the hub
                                             -> WS /ws/progress, GET /v2/import/status/{jobId}

isbn.py        what an ISBN is
records.py     what goes in, what comes out
settings.py    addresses, keys, bounds
web.py         what is asked of the web; http_web.py asks it
sources.py     the three metadata sources: addresses and shapes
public_net.py  connections to public addresses only, for covers
embedder.py    texts to vectors; a model that runs here
library.py     where books are kept, and the fallback
nearest.py     books that are near to each other
progress.py    the hub, and its frames as clients read them
workflow.py    the four steps
legacy.py      what did it before: a state machine by hand
imports.py     the job manager that takes the one or the other way
app.py         HTTP, WebSocket and the page; `python -m holdfast.examples.book_import` serves it

Needs `holdfast[http,service]`; with `holdfast[embeddings]` books get vectors.
"""
