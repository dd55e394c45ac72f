/**
 * How flow switches the tree so that a switch cut in half can be told from somebody else's work.
 *
 * Git's own lock file is empty: nobody can say afterwards whose it was. So flow takes the lock itself (`index.lock`, by a link,
 * which exactly one can win) with a note in it: which process, between which branches and commits. Git then works on a copy of
 * the index, and the copy replaces the index in the end. Whoever finds the lock knows from its text that everything between the
 * two branches is flow's, and from the process whether it still works. A lock without that text is never flow's.
 */
import type { Host } from '../hosts/host.ts';
import { aliveSince } from './processes.ts';

/** What stands in the lock while flow switches. */
export interface SwitchNote {
  /** The branches, and the commits they were at. */
  from: string;
  to: string;
  fromCommit: string;
  toCommit: string;
  pid: number;
  /** The process group: the git that works may outlive the process that wrote the note. */
  group: number;
  startedAtTicks: number;
  boot: string;
  /** The namespace that the ids belong to: those of another container mean nothing here. */
  namespace: string;
}

const TITLE = 'a switch of flow';

/** Exit status of the script when somebody holds the lock. */
export const LOCKED_STATUS = 75;
/** Exit status of the script when the branch that is to be moved is not where it was. */
export const MOVED_STATUS = 76;

/**
 * The script of a switch: `sh -c SCRIPT sh GITDIR FROM TO FROM_COMMIT TO_COMMIT MODE`, in the folder of the tree.
 * MODE `switch` begins one from a branch to another, and `move` one of a single branch (FROM is TO) to another commit; `back` takes over the lock of one that was cut, completes it, and goes back to FROM: what was half
 * written is then whole, and leaves again in the ordinary way.
 * It leaves the lock where the files may be half of each, and only there.
 */
export const SWITCH_SCRIPT = `
gitdir=$1 from=$2 to=$3 from_commit=$4 to_commit=$5 mode=$6
lock=$gitdir/index.lock copy=$gitdir/flow-index note=$gitdir/flow-switch.$$
read -r stat < /proc/$$/stat || exit 70
set -- \${stat##*) }
{
  printf '%s\\n' '${TITLE}' "pid=$$" "group=$3" "startedAtTicks=\${20}"
  printf 'boot=%s\\nnamespace=%s\\n' "$(cat /proc/sys/kernel/random/boot_id)" "$(readlink /proc/self/ns/pid)"
  printf '%s\\n' "from=$from" "to=$to" "fromCommit=$from_commit" "toCommit=$to_commit"
} > "$note" || exit 70
if [ "$mode" = back ]; then
  mv -f "$note" "$lock" || exit 70
  rm -f "$copy.lock"
else
  ln "$note" "$lock"
  linked=$?
  rm -f "$note"
  if [ $linked -ne 0 ]; then
    if [ -e "$lock" ]; then exit ${LOCKED_STATUS}; fi
    exit 70
  fi
fi
run_git() { GIT_INDEX_FILE=$copy git -c core.fsmonitor=false "$@"; }
cp -p "$gitdir/index" "$copy"
status=$?
if [ $status -eq 0 ]; then
  if [ "$mode" = back ]; then
    run_git read-tree --reset -u "$to_commit" && run_git read-tree --reset -u "$from_commit" &&
      run_git symbolic-ref -m 'flow: back from a switch that was cut' HEAD "refs/heads/$from" &&
      if [ "$from" = "$to" ] && [ "$(git rev-parse --verify "refs/heads/$from")" = "$to_commit" ]; then
        run_git update-ref -m 'flow: back from a switch that was cut' "refs/heads/$from" "$from_commit" "$to_commit"
      fi
  elif [ "$mode" = move ]; then
    # What somebody committed meanwhile would be taken off the branch.
    if [ "$(git rev-parse --verify HEAD)" = "$from_commit" ]; then
      run_git switch --no-guess --no-recurse-submodules --no-overwrite-ignore --quiet -C "$to" "$to_commit"
    else
      (exit ${MOVED_STATUS})
    fi
  else
    # An ignored file that the branch tracks would be overwritten without a word.
    run_git switch --no-guess --no-recurse-submodules --no-overwrite-ignore --quiet "$to"
  fi
  status=$?
fi
if [ $status -eq 0 ]; then
  mv -f "$copy" "$gitdir/index" || exit 70
elif [ "$mode" = back ] || [ $status -gt 128 ] || [ -n "$(git --no-optional-locks status --porcelain)" ]; then
  exit $status
fi
rm -f "$copy" "$lock"
exit $status
`;

/** The note in a lock file; null when the lock is not there, or holds anything else. */
export async function readNote(host: Host, lock: string): Promise<SwitchNote | null> {
  const text = (await host.readFile(lock))?.toString('utf8') ?? '';
  const [title, ...rest] = text.split('\n');
  if (title !== TITLE) return null;
  const entries = rest.filter((line) => line.includes('=')).map((line) => line.split(/=(.*)/s, 2));
  const {
    from,
    to,
    fromCommit,
    toCommit,
    boot,
    namespace,
    pid = '',
    group = '',
    startedAtTicks = '',
  } = Object.fromEntries(entries) as Partial<Record<string, string>>;
  const numbers = [pid, group, startedAtTicks].map(Number);
  const texts = [from, to, fromCommit, toCommit, boot, namespace];
  if (texts.some((value) => value === undefined || value === '') || !numbers.every((value) => value > 0)) return null;
  return {
    from: from ?? '',
    to: to ?? '',
    fromCommit: fromCommit ?? '',
    toCommit: toCommit ?? '',
    boot: boot ?? '',
    namespace: namespace ?? '',
    pid: numbers[0] ?? 0,
    group: numbers[1] ?? 0,
    startedAtTicks: numbers[2] ?? 0,
  };
}

/** True only when it is certain that nothing of that switch runs any more. */
export async function isOver(host: Host, note: SwitchNote): Promise<boolean> {
  const boot = (await host.readFile('/proc/sys/kernel/random/boot_id'))?.toString('utf8').trim();
  if (boot === undefined) return false;
  if (boot !== note.boot) return true;
  const namespace = await host.run(['readlink', '/proc/self/ns/pid']);
  if (namespace.status !== 0 || namespace.stdout.trim() !== note.namespace) return false;
  const since = await aliveSince(host, note.pid);
  // An id is not used again while a process group of that number lives.
  if (since !== null && note.pid === note.group) return since !== note.startedAtTicks;
  if (since === note.startedAtTicks) return false;
  const group = await host.run(['pgrep', '-g', String(note.group)]);
  if (group.status === 1) return true;
  if (group.status !== 0) return false;
  const members = group.stdout.split('\n').filter((line) => line !== '');
  const alive = await Promise.all(members.map((pid) => aliveSince(host, Number(pid))));
  return alive.every((started) => started === null);
}
