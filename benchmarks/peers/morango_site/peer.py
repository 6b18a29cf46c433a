"""One process of Morango: prepares a database, serves it over HTTP, or takes commands as JSON lines.

python peer.py create server|client    make the tables; the server prints the partition's id
python peer.py serve PORT
python peer.py fill FILE                write the rows of a JSON file
python peer.py drive
"""

import datetime
import json
import os
import sys
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django

django.setup()

from bench_items.models import Item, User  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

SCOPE = "all"


def create(role):
    from morango.models.certificates import Certificate, ScopeDefinition

    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode=WAL")
    ScopeDefinition.objects.create(
        id=SCOPE, profile="bench", version=1, primary_scope_param_key="dataset_id", description="all",
        read_filter_template="", write_filter_template="", read_write_filter_template="${dataset_id}",
    )  # fmt: skip
    if role == "server":
        print(Certificate.generate_root_certificate(SCOPE).id)
        user = User(username="admin", is_superuser=True)
        user.set_password("password")
        user.save()


def serve(port):
    from cheroot.wsgi import Server
    from django.core.wsgi import get_wsgi_application

    server = Server(("127.0.0.1", port), get_wsgi_application(), numthreads=4)
    server.prepare()
    print("ready", flush=True)
    server.serve()


def fill(file):
    rows = []
    with open(file) as source:
        for row in json.load(source):
            item = Item(**{**row, "updated": datetime.datetime.fromisoformat(row["updated"])})
            # bulk_create() does not call save(), which makes the key.
            item.id = item.calculate_uuid()
            rows.append(item)
    Item.objects.bulk_create(rows, batch_size=1000)


class Client:
    def connect(self, url, chunk_size):
        """Get a certificate, as each replica does once."""
        from morango.sync.controller import MorangoProfileController

        self.connection = MorangoProfileController("bench").create_network_connection(url, chunk_size=chunk_size)
        self.server_certificate = self.connection.get_remote_certificates(settings.BENCH_DATASET, SCOPE)[0]
        self.certificate = self.connection.certificate_signing_request(
            self.server_certificate, SCOPE, {"dataset_id": settings.BENCH_DATASET}, userargs="admin",
            password="password",
        )  # fmt: skip

    def pull(self):
        """Return the seconds of one sync."""
        from morango.models.certificates import Filter

        began = time.perf_counter()
        session = self.connection.create_sync_session(self.certificate, self.server_certificate)
        client = session.get_pull_client()
        client.initialize(Filter(settings.BENCH_DATASET))
        client.run()
        client.finalize()
        self.connection.close_sync_session(session.sync_session)
        return time.perf_counter() - began

    def count(self):
        return Item.objects.count()


def drive():
    client = Client()
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": getattr(client, arguments.pop("command"))(**arguments)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create", role]:
            create(role)
        case ["serve", port]:
            serve(int(port))
        case ["fill", file]:
            fill(file)
        case ["drive"]:
            drive()
