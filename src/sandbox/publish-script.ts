/**
 * The `publish.sh` of the sandbox's project: the script an operator has, which asks once and then acts (runbook R3.4).
 * It leaves a line in the server's `publishes.log` for each run that was confirmed, so that "exactly once" can be
 * counted, and lets a knob file make it misbehave. It takes nothing from the environment.
 */

/** Ways in which a run of publish.sh can misbehave. Seconds and counts; `1` switches a flag on. */
export interface PublishKnobs {
  /** Ends with this status before anything is changed on the server. */
  EXIT_WITH?: number;
  /** Ends with this status after everything was done. */
  EXIT_AFTER?: number;
  /** Sleeps before anything is changed, in seconds. */
  SLEEP_BEFORE?: number;
  /** Sleeps after everything was done, in seconds. */
  SLEEP_AFTER?: number;
  /** Asks a second question. */
  ASK_AGAIN?: 1;
  /** Prints so many megabytes. */
  PRINT_MB?: number;
  /** Never ends, before anything is changed. */
  HANG?: 1;
  /** Prints a line every tenth of a second, for so many seconds. */
  TICK?: number;
  /** Leaves a process behind that holds what publish.sh prints to. */
  DAEMON?: 1;
  /** Reads a further answer from the terminal, which it does not have. */
  ASK_TERMINAL?: 1;
  /** How long the new process may take until it answers, in milliseconds, instead of 10 000. */
  PATIENCE_MS?: number;
}

/** The text of a knob file, which publish.sh reads as shell assignments. */
export function knobsText(knobs: PublishKnobs): string {
  return Object.entries(knobs)
    .map(([name, value]) => `${name}=${Number(value)}\n`)
    .join('');
}

/** The text of publish.sh. */
export function publishScriptText(): string {
  return `#!/bin/sh
# Publishes what is checked out here on one server: ./publish.sh SERVER
# The servers are listed in servers.conf, one a line: name, folder, port, separated by tabs.
set -u
cd "$(dirname "$0")" || exit 1

if [ $# -ne 1 ]; then
  echo 'usage: ./publish.sh SERVER' >&2
  exit 2
fi
server=$1
tab=$(printf '\\t')
dir=
port=
while IFS=$tab read -r name folder number; do
  if [ "$name" = "$server" ]; then
    dir=$folder
    port=$number
  fi
done < servers.conf
if [ -z "$dir" ]; then
  echo "There is no server called '$server' in servers.conf." >&2
  exit 2
fi

version=$(git describe --tags --exact-match --match 'v*' 2>/dev/null) ||
  version=$(git describe --tags --always --match 'v*') || exit 1
build=$(git rev-parse --short=7 HEAD) || exit 1

EXIT_WITH= EXIT_AFTER= SLEEP_BEFORE= SLEEP_AFTER= ASK_AGAIN= PRINT_MB= HANG= TICK= DAEMON= ASK_TERMINAL= PATIENCE_MS=10000
for knobs in "$dir/../../publish-knobs.sh" "$dir/publish-knobs.sh"; do
  if [ -f "$knobs" ]; then . "$knobs"; fi
done

confirm() {
  printf '%s [y/N] ' "$1"
  answer=
  read -r answer
  echo
  case $answer in
    y | Y) ;;
    *)
      echo 'Nothing was published.'
      exit 1
      ;;
  esac
}

# True while the process is this server's; a number alone may have passed to another process.
is_ours() {
  { tr '\\0' '\\n' < "/proc/$1/cmdline" | grep -qF "$dir/quickpay"; } 2>/dev/null
}

echo "quickpay $version (build $build) goes to $server: $dir, port $port."
confirm "Publish $version (build $build) to $server?"
mkdir -p "$dir/logs" || exit 1
echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $version $$" >> "$dir/publishes.log" || exit 1

if [ -n "$SLEEP_BEFORE" ]; then sleep "$SLEEP_BEFORE"; fi
if [ -n "$ASK_AGAIN" ]; then confirm "Really replace what runs on $server?"; fi
if [ -n "$PRINT_MB" ]; then yes 'copying quickpay to its server, block after block' | head -c "\${PRINT_MB}000000"; echo; fi
if [ -n "$ASK_TERMINAL" ]; then
  printf 'Passphrase: '
  read -r answer < /dev/tty || exit 1
fi
if [ -n "$DAEMON" ]; then setsid "$dir/quickpay" -wait 1 1 60000 & fi
if [ -n "$TICK" ]; then
  ticks=0
  while [ "$ticks" -lt $((TICK * 10)) ]; do
    ticks=$((ticks + 1))
    echo "tick $ticks of $((TICK * 10))"
    sleep 0.1
  done
fi
if [ -n "$HANG" ]; then while :; do sleep 1; done; fi
if [ -n "$EXIT_WITH" ]; then
  echo "$server could not be reached." >&2
  exit "$EXIT_WITH"
fi

echo "Copying quickpay $version."
shown=$version
if grep -q '"wrongVersion": *true' misbehave.json 2>/dev/null; then shown=v0.0.0; fi
for file in quickpay quickpay.cjs settings.json; do
  # By rename: the old file may be in use.
  cp -p "$file" "$dir/.$file.new" && mv "$dir/.$file.new" "$dir/$file" || exit 1
done
if [ -f misbehave.json ]; then
  cp misbehave.json "$dir/release-misbehave.json" || exit 1
else
  rm -f "$dir/release-misbehave.json"
fi
echo "$shown $build" > "$dir/.version.new" && mv "$dir/.version.new" "$dir/version" || exit 1

old=
if [ -f "$dir/quickpay.pid" ]; then read -r old < "$dir/quickpay.pid"; fi
if [ -n "$old" ] && is_ours "$old"; then
  echo "Stopping process $old."
  kill "$old" 2>/dev/null
  waited=0
  while is_ours "$old"; do
    if [ "$waited" -eq 200 ]; then
      echo 'It does not stop; killing it.'
      kill -9 "$old" 2>/dev/null
    fi
    sleep 0.05
    waited=$((waited + 1))
  done
fi

# A session of its own, and none of our descriptors: what we inherited (a lock, a pipe) must not live on in a server.
(
  cd "$dir" || exit 1
  for descriptor in 3 4 5 6 7 8 9; do eval "exec $descriptor>&-"; done
  exec setsid "$dir/quickpay" --name "$server" --port "$port" < /dev/null >> logs/console.log 2>&1
) &
new=$!
echo "$new" > "$dir/quickpay.pid"
echo "Started process $new, waiting for it to answer."
if ! "$dir/quickpay" -wait "$port" "$new" "$PATIENCE_MS"; then
  if is_ours "$new"; then
    echo "quickpay $version runs on $server and does not answer." >&2
  else
    echo "quickpay $version ended on $server before it answered:" >&2
    tail -n 3 "$dir/logs/console.log" >&2
  fi
  exit 1
fi
if [ -n "$SLEEP_AFTER" ]; then sleep "$SLEEP_AFTER"; fi
echo "Published $version (build $build) on $server."
exit "\${EXIT_AFTER:-0}"
`;
}
