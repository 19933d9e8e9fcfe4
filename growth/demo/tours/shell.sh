# What the tours call in a shell, beside a running ./scripts/dev: `. growth/demo/tours/shell.sh`, once for all of them.
# DEV names the folder of its data, if that is not .growth.

DEV=${DEV:-.growth}

# pick NAME: the first text of that name in an answer; the answer itself is shown.
pick() {
    local answer
    answer=$(cat)
    echo "$answer" >&2
    echo "$answer" | grep -o "\"$1\": *\"[^\"]*" | head -n 1 | cut -d '"' -f 4 | grep .
}

URL=$(pick base_url <"$DEV/dev.json" 2>/dev/null) KEY=$(pick operator_key <"$DEV/dev.json" 2>/dev/null)
NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ) OPENS=$NOW CLOSES=$(date -u -d '+30 days' +%Y-%m-%dT%H:%M:%SZ)

json() { curl -s -w ' %{http_code}\n' -H 'Content-Type: application/json' "$@"; }

# as WHO PATH [CURL'S OPTIONS]: a shopper asks.
as() {
    local token=$DEV/token-$1 path=$2
    [ -s "$token" ] || .venv/bin/growth token "$1" --dev-json "$DEV" >"$token"
    shift 2
    json -H "Authorization: Bearer $(cat "$token")" "$URL/v1/$path" "$@"
}

# op PATH [BODY]: an operator acts. see PATH: an operator looks.
op() { json -X POST -H "Authorization: Bearer $KEY" "$URL/admin/v1/$1" ${2:+-d "$2"}; }
see() { json -H "Authorization: Bearer $KEY" "$URL/admin/v1/$1"; }

# tell EVENT: the shop tells, signed.
tell() { .venv/bin/growth hook "$1" --dev-json "$DEV" | curl -s -w ' %{http_code}\n' -K - "$URL/shop/v1/events"; }

# soon WORDS COMMAND…: ask again until the answer has these words; at most half a minute.
soon() {
    local words=$1 tries=60 answer
    shift
    until answer=$("$@") && [[ $answer == *"$words"* ]]; do
        tries=$((tries - 1)) && [ "$tries" -gt 0 ] && sleep 0.5 || { echo "not within half a minute: $words in $answer" >&2; return 1; }
    done
    echo "$answer"
}
