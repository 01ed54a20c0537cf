#!/bin/sh
# Shows every header of the request as CGI has it.
[ "$PATH_INFO" != /set ] || printf 'X-Session-Set: {"a":1}\n'
printf 'Content-Type: text/plain\n\n'
exec awk 'BEGIN { for (name in ENVIRON) if (name ~ /^(HTTP_|CONTENT_)/) printf "%s\t%s\n", name, ENVIRON[name] }'
