"""The command `serve`: a trained run that labels texts over HTTP."""

import argparse
import errno
import ipaddress
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.exits import DONE
from textrnn.base.process import importing
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.wandb_artifacts import RUN_HELP, local_run

DESCRIPTION = """\
Labels texts over HTTP, on this machine only unless --host is typed:
  POST /predict      {"text": "..."} or {"texts": ["...", ...]}
  GET  /             a page to try it, with the interface's description
  GET  /health, /metrics (Prometheus), /openapi.json
Requests that arrive together are labeled together. Ctrl-C or SIGTERM ends the
server once the requests that have begun are answered. There is no
authentication and no encryption: put a proxy in front."""
EXAMPLES = """\
examples:
  textrnn serve runs/RUN
  textrnn serve "$(textrnn runs best)" --port 0
  textrnn serve wandb:PROJECT/MODEL:best
  curl localhost:8000/predict -d '{"text": "A fine film."}'"""
LIBRARIES = ("starlette", "uvicorn", "pydantic")


def main(argv: Sequence[str]) -> int:
    """`textrnn serve RUN|EXPORT [--host HOST] [--port PORT]`; returns the exit code.

    Raises:
        InputError: for a run that can't be served, or an address that can't be used.
    """
    parser = argparse.ArgumentParser(
        prog="textrnn serve",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN|EXPORT", help=f"{RUN_HELP}; or a folder of textrnn export")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 is a free one (default %(default)s)")
    arguments = parser.parse_args(list(argv))
    refuse_ranks("textrnn serve")
    log_to_console()
    if not all(map(find_spec, LIBRARIES)):
        raise InputError('textrnn serve needs Starlette and uvicorn; type pip install "textrnn[serve]".')
    with _listen(arguments.host, arguments.port) as listening:  # before a model is fetched
        run = local_run(arguments.run)
        with importing():
            from textrnn.sharing.served_model import load_served
            from textrnn.sharing.serving import serve
        model, name = load_served(run)
        host = listening.getsockname()[0]
        if not ipaddress.ip_address(host).is_loopback:
            print(f"warning: {host} is open to other machines, without authentication or encryption", file=sys.stderr)
        print(f"model: {name}, classes {', '.join(model.classes)}")
        serve(model, name, listening)
    return DONE


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; clients wait until the model is loaded."""
    if not 0 <= port < 2**16:
        raise InputError(f"--port {port}: type a port from 1 to 65535, or 0 for a free one.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(
            f"--host {host}: there is no such address; type 127.0.0.1, or an address of this machine."
        ) from error
    try:
        listening = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"--host {host}: is not an address of this machine; type 127.0.0.1.") from error
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
        raise InputError(f"--port {port}: {reason}; type another one, or --port 0 for a free one.") from error
    # Its connections inherit it. asyncio sets it only for sockets that name their protocol, and an answer, which is
    # sent in two parts, would wait 40 ms for the client to confirm the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return listening
