"""Pages for people: what runs, what failed and why, and the verbs to change it; `http_app(pages=True)`.

    request -> mount.py (which page) -> guard.py (who asks; is a form ours) -> a page -> shell.py (a template)

Every page is made here as whole HTML and works without JavaScript.  With it, parts marked as live are fetched
again when something was committed (changes.py).  `mount.py` alone knows all pages.

Promises
  * What users gave (ids, names, errors, inputs) is text on a page and never markup.
  * A page asks nothing of another host, and no script or style stands in it.
  * Who may see and do what is decided as it is for the API: roles and tenants of the token that signed in.
"""
