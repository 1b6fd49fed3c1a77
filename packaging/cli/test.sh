#!/bin/sh
# Runs the programs of an unpacked archive, or of an installed one, as a new user would, with nothing of
# the user's environment: test.sh PREFIX
set -eu

prefix=$(cd "$1" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/kimberlite-programs.XXXXXX")
pid=
end() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || :
  rm -rf "$work"
}
trap end EXIT
PATH="$prefix/bin:/usr/bin:/bin" HOME="$work" NO_COLOR=1
export PATH HOME NO_COLOR
unset KIMBERLITE_ADDRESS KIMBERLITE_TENANT KIMBERLITE_TOKEN KIMBERLITE_HISTORY
cd "$work"

fail() {
  echo "$*" >&2
  exit 1
}

# Waits until a file holds a text, as long as the program that writes it runs.
wait_for() {
  until grep -q "$2" "$1" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || { cat "$1" >&2; fail "$1 never told \"$2\""; }
    sleep 0.1
  done
}

for name in LICENSE README.md bin/kimberlite bin/kimberlite-server share/man/man1/kimberlite.1 \
  share/man/man1/kimberlite-import.1 share/bash-completion/completions/kimberlite \
  share/zsh/site-functions/_kimberlite share/fish/vendor_completions.d/kimberlite.fish; do
  [ -s "$prefix/$name" ] || fail "$prefix lacks $name"
done
version=$(kimberlite --version | sed 's/.* //')
[ "$(kimberlite-server --version | sed 's/.* //')" = "$version" ] || fail "two versions"
case $(basename "$prefix") in kimberlite-"$version"-*) ;; *) fail "$prefix is not $version" ;; esac
if command -v bash >/dev/null; then
  bash -c '. "$0" && complete -p kimberlite' "$prefix/share/bash-completion/completions/kimberlite"
fi

# The development server, by the lines that it shows itself.
kimberlite dev --listen 127.0.0.1:0 >dev.txt &
pid=$!
wait_for dev.txt 'Ctrl-C stops it'
sed -n 's/^  \(export KIMBERLITE_.*\)/\1/p; /^  echo /p; /^  kimberlite query /p' dev.txt >lines.sh
[ "$(wc -l <lines.sh)" -eq 3 ] || { cat dev.txt >&2; fail "it shows other lines"; }
sh -eu lines.sh >shown.txt
cat shown.txt
grep -q 'hello' shown.txt || fail "the event that was appended is not shown"
kill "$pid"
wait "$pid" || fail "kimberlite dev ended with $?"
pid=

# The server, with a folder that it makes and a second run that finds what the first one kept.
for run in 1 2; do
  rm -f port
  kimberlite-server --listen 127.0.0.1:0 --data-dir data --dev-token packaged --port-file port \
    >server.txt 2>&1 &
  pid=$!
  wait_for port .
  KIMBERLITE_ADDRESS="127.0.0.1:$(cat port)" KIMBERLITE_TOKEN=packaged
  export KIMBERLITE_ADDRESS KIMBERLITE_TOKEN
  kimberlite append kept "run $run" --create phi
  kimberlite verify --local
  kill "$pid"
  wait "$pid" || { cat server.txt >&2; fail "the server ended with $?"; }
  pid=
done
unset KIMBERLITE_TOKEN
kept=$(kimberlite read kept --format lines --address embedded:data | tr '\n' ' ')
[ "$kept" = "run 1 run 2 " ] || fail "the folder holds: $kept"
echo "the programs of $prefix work"
