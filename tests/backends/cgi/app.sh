#!/bin/sh
# A little application that keeps its session in headers: CGI, a POSIX shell and awk.
#
# A shell can't parse JSON, so the sidecar hands it the entries one by one: headers.keys = user_id, visits, hits, cart.
export LC_ALL=C
user=${HTTP_X_SESSION_KEY_USER_ID:--} visits=${HTTP_X_SESSION_KEY_VISITS:-0} hits=${HTTP_X_SESSION_KEY_HITS:-0}

# field NAME DEFAULT: a field of the form or query, percent-encoded.
field() { printf '%s' "$form" | awk -v RS='&' -v name="$1=" -v value="$2" '
  index($0, name) == 1 && $0 != name { value = substr($0, length(name) + 1) }
  END { gsub(/\+/, "%20", value); print value }'; }

# decode: what is percent-encoded as it is. json: the same as a JSON string.
decode() { awk '{ while (i = index($0, "%")) { printf "%s%c", substr($0, 1, i - 1), 16 * digit(i + 1) + digit(i + 2); $0 = substr($0, i + 3) } print }
  function digit(i) { return index("0123456789abcdef", tolower(substr($0, i, 1))) - 1 }'; }
json() { sed 's/["\\]/\\&/g; s/%22/\\"/g; s/%5[Cc]/\\\\/g; s/%\([01].\)/\\u00\1/g; s/%7[Ff]/\\u007f/g; s/.*/"&"/' | decode; }

answer() { printf 'Content-Type: %s; charset=utf-8\n\n%s\n' "${2:-text/plain}" "$1"; }
home() { printf 'Status: 303 See Other\nLocation: /\n\n'; }

body=$(head -c "${CONTENT_LENGTH:-0}")
form=$QUERY_STRING\&$body
case $form in *[!!-~]* | *%[!0-9A-Fa-f]* | *%?[!0-9A-Fa-f]* | *% | *%?) # not percent-encoded
  printf 'Status: 400 Bad Request\n'
  answer "bad request"
  exit ;;
esac
case $REQUEST_METHOD in HEAD) route="GET $PATH_INFO" ;; *) route="$REQUEST_METHOD $PATH_INFO" ;; esac
if [ "$route" = "GET /slow" ]; then
  sleep "$(awk -v ms="$(field ms 0)" 'BEGIN { print ms / 1000 }')"
  route="GET /"
  then=$(field then | decode)
  [ -z "$then" ] || route="POST /$then"
fi
[ -z "$HTTP_X_SESSION_NONCE" ] || printf 'X-Session-Nonce: %s\n' "$HTTP_X_SESSION_NONCE"
case $route in
"GET /")
  cart=$(printf '%s\n' "${HTTP_X_SESSION_KEY_CART:-[]}" | decode)
  answer "user=$user visits=$visits cart=$cart
hits=$hits" ;;
"POST /login")
  printf 'X-Session-Set-Key-User-Id: %s\nX-Session-Cycle-Key: true\n' "$(field user nobody)"
  home ;;
"POST /logout")
  printf 'X-Session-Flush: true\n'
  home ;;
"POST /cart/add")
  cart=$(printf '%s\n' "${HTTP_X_SESSION_KEY_CART:-[]}" | decode) item=$(field item nothing | json)
  case $cart in "[]") cart="[$item]" ;; *) cart="${cart%]},$item]" ;; esac
  printf 'X-Session-Set: {"cart":%s}\n' "$cart"
  home ;;
"POST /visit")
  printf 'X-Session-Set: {"visits":%d}\n' $((visits + 1))
  answer "visits=$((visits + 1))" ;;
"GET /count" | "POST /count") # an increment, so that parallel requests all count
  printf 'X-Session-Increment: {"hits":1}\n'
  answer "hits=$((hits + 1))" ;;
"GET /headers")
  answer "$(awk 'BEGIN {
    for (name in ENVIRON) if (name ~ /^HTTP_/) {
      value = ENVIRON[name]; gsub(/["\\]/, "\\\\&", value); gsub(/[^ -~]/, "?", value)
      all = all (all ? "," : "") "\"" name "\":\"" value "\""
    }
    print "{" all "}"
  }')" application/json ;;
*)
  printf 'Status: 404 Not Found\n'
  answer "not found" ;;
esac
