"""Django with its sessions in SQLite behind a Redis (its engine cached_db): cached_db.py DATABASE REDIS own|ignoring.

`own` is Django's cache on Redis, `ignoring` that of django-redis, told to ignore what goes wrong as memcached's clients
do. GET /set?name=value sets an entry, /logout flushes, and each answers with the session as JSON.
"""

import json
import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

DATABASE, REDIS, CACHE = sys.argv[1:]
CACHES = {
    "own": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS},
    "ignoring": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS,
        "OPTIONS": {"IGNORE_EXCEPTIONS": True},
    },
}


def shown(request: HttpRequest) -> JsonResponse:
    return JsonResponse(dict(request.session.items()))


def set_entries(request: HttpRequest) -> JsonResponse:
    request.session.update(request.GET.dict())
    return shown(request)


def logout(request: HttpRequest) -> JsonResponse:
    request.session.flush()
    return shown(request)


urlpatterns = [path("", shown), path("set", set_entries), path("logout", logout)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": CACHES[CACHE]},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}},
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of nobody",
    SESSION_ENGINE="django.contrib.sessions.backends.cached_db",
)
django.setup()
call_command("migrate", verbosity=0)
server = make_server("127.0.0.1", 0, get_wsgi_application())
print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
