"""The page: `ifanp-jax serve --workdir=RUN` completes pictures in a browser, and by a JSON API.

| file              | holds                                                          |
|-------------------|----------------------------------------------------------------|
| settings.py       | limits, and which model is served under which name             |
| guard.py          | Host, Origin and the headers of every answer                   |
| forms.py          | a multipart body in memory, of bounded size                    |
| jobs.py           | one job at a time, a bounded number that wait, who left        |
| answering.py      | bytes of a picture and a mask in, PNG files out                |
| completing.py     | POST /api/complete: from the form to the answer that is sent   |
| connections.py    | HTTP connections that are closed when a client says nothing    |
| server.py         | the routes, and the process from its start to its end          |
| page.*, painter.js, results.js, icon.svg | the page; no framework                  |

It needs `pip install 'ifanp_jax[web]'`.
"""
