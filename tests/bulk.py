"""
A server of the bulk interface of OpenSearch, as far as a client sees it.
"""

from __future__ import annotations

import http.server
import json
import threading
import time


class Bulk(http.server.BaseHTTPRequestHandler):
    """The bulk interface, as far as a client sees it."""

    protocol_version = "HTTP/1.1"
    documents: dict
    times: dict
    script: list
    seen: list

    def do_POST(self):
        """Take documents, or do what the script says."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], self.headers["Authorization"]))
        act = self.script.pop(0) if self.script else Bulk.take
        act(self, body)

    def take(self, body, states=()):
        """Keep each document once."""
        words = body.split(b"\n")[:-1]
        items = []
        for number, (action, document) in enumerate(zip(words[::2], words[1::2])):
            identity = json.loads(action)["create"]["_id"]
            state = dict(states).get(number) or (409 if identity in self.documents else 201)
            items.append({"create": {"_id": identity, "status": state, "error": {"reason": f"because {state}"}}})
            if state == 201:
                self.documents[identity] = document
                self.times[identity] = time.time()
        self.answer(200, json.dumps({"errors": True, "items": items}).encode())

    def answer(self, status, body):
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def start(*script):
    """Start a server that first does what a script says; return its class, address and end."""
    kind = type("Scripted", (Bulk,), {"documents": {}, "times": {}, "script": list(script), "seen": []})
    there = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    there.handle_error = lambda *_: None
    threading.Thread(target=there.serve_forever, args=(0.02,), daemon=True).start()

    def end():
        there.shutdown()
        there.server_close()

    return kind, f"http://127.0.0.1:{there.server_address[1]}/wlcg/_bulk", end
