"""A web server on this machine with the files of a folder."""
import functools
import http.server
import threading


class Server(http.server.ThreadingHTTPServer):
    """`url` has the files of `folder` until shutdown(), or the end of a `with`."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=[.01], daemon=True).start()

    def __exit__(self, *raised):
        self.shutdown()
        super().__exit__(*raised)
