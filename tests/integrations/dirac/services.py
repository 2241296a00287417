"""
Answers in the place of DIRAC's services, in a container as its ``sitecustomize``; all else there is DIRAC's.
"""

import json

from DIRAC.Core.Base.Client import Client


class Service:
    """Any service: it takes everything, and what was told is printed."""

    def __init__(self, url):
        self.url = url

    def __getattr__(self, name):
        """Give a call."""

        def call(*arguments):
            print("SERVICE " + json.dumps([self.url, name, arguments], default=str), flush=True)

            return {"OK": True, "Value": {}}

        return call


Client._getRPC = lambda self, rpc=None, url="", timeout=None: rpc or Service(url or self.serverURL)
