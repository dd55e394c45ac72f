/**
 * Which control machine releases: kept on the proxy's own host, beside the configuration's repository, because two machines with a
 * state folder each would not see each other's lock. It is claimed by every driver, looked at again right before anything is
 * switched or published, and removed when the release has ended.
 *
 * Invariant: while a release of one state folder runs, no other state folder drives this proxy, unless a person has taken it over;
 * and who was deposed so starts nothing more. The epoch is the driver's own (store/lock.ts), so that an older driver of the same
 * folder is told from a newer one.
 */
import { statSync } from 'node:fs';
import { hostname } from 'node:os';
import { LockHeldError, messageOf, StateError } from '../errors.ts';
import type { Host } from '../hosts/host.ts';
import { quote } from '../hosts/jobs.ts';

export interface Owner {
  /** The state folder, with its machine (`ownerName`). */
  owner: string;
  epoch: number;
  /** The person, since when, and of which release; for others to read. */
  who: string;
  since: string;
  release: string;
}

export interface Ownership {
  /** Throws StateError FENCED when the proxy has another owner by now. Reads only. */
  assert(): Promise<void>;
}

/** For whoever only looks. */
export const unowned: Ownership = { assert: () => Promise.resolve() };

/**
 * The name of a state folder that no other machine has, and no other folder that comes to lie at the same path: one that was moved
 * away goes on under its own name, and a new one in its place knows neither its releases nor its epochs.
 */
export function ownerName(stateDir: string): string {
  const place = `${hostname()}:${stateDir}`;
  const folder = statSync(stateDir, { throwIfNoEntry: false });
  return folder === undefined ? place : `${place}#${folder.ino}`;
}

const CALL_TIMEOUT_MS = 10_000;

/**
 * The shell side: under a lock of its own, so that of two machines at the same moment one is refused. Answers with a word, and
 * with what is on record. It needs sh, git, flock, cat, mv and sync.
 */
const SCRIPT = String.raw`
main() {
  git_dir=$(git -C "$dir" rev-parse --git-dir) || exit 71
  case $git_dir in /*) ;; *) git_dir=$dir/$git_dir ;; esac
  file=$git_dir/flow-owner
  if [ "$op" = read ]; then printf 'read\n'; cat "$file" 2>/dev/null; exit 0; fi
  exec 9>>"$file.lock" || exit 72
  flock -w 5 9 || exit 73
  owner= epoch=0
  { read -r owner; read -r epoch; } <"$file" 2>/dev/null
  case $epoch in '' | *[!0-9]*) epoch=0 ;; esac
  if [ "$op" = drop ]; then
    [ "$owner" != "$mine" ] || rm -f "$file"
    printf 'dropped\n'
    exit 0
  fi
  if [ -n "$owner" ] && [ "$owner" != "$mine" ] && [ "$force" != yes ]; then printf 'held\n'; cat "$file"; exit 0; fi
  if [ "$owner" = "$mine" ] && [ "$epoch" -gt "$my_epoch" ]; then printf 'newer\n'; cat "$file"; exit 0; fi
  printf '%s\n' "$mine" "$my_epoch" "$who" "$since" "$release" >"$file.new" && sync "$file.new" &&
    mv -f "$file.new" "$file" || exit 74
  printf 'ours\n'
  cat "$file"
}
main
`;

/** The owner on record at this proxy; null when nobody owns it, or it cannot be asked. */
export async function readOwner(host: Host, nginxDir: string): Promise<Owner | null> {
  const answer = await ask(host, { op: 'read', dir: nginxDir });
  return 'owner' in answer ? answer.owner : null;
}

/**
 * Claims the proxy. Throws LockHeldError when another control machine owns it, unless `force`. Where the proxy's host cannot keep
 * the record (it cannot be reached, or there is no repository) the step that needs it says why; then nothing is asserted here.
 */
export async function claim(
  host: Host,
  nginxDir: string,
  mine: Owner,
  options: { force: boolean; tell?: (text: string) => void },
): Promise<Ownership> {
  const answer = await ask(host, { op: 'claim', dir: nginxDir, mine, force: options.force });
  if ('problem' in answer) {
    options.tell?.(
      `the owner of the proxy could not be recorded (${answer.problem}); another control machine is not kept out`,
    );
    return unowned;
  }
  if (answer.word === 'held') {
    throw new LockHeldError(
      answer.owner === null
        ? 'Another control machine or state folder drives this proxy.'
        : heldBy(answer.owner, nginxDir),
    );
  }
  if (answer.word === 'newer') throw fenced(answer.owner, nginxDir);
  return {
    async assert() {
      const now = await ask(host, { op: 'read', dir: nginxDir });
      if ('problem' in now) return;
      if (now.owner?.owner !== mine.owner || now.owner.epoch !== mine.epoch) throw fenced(now.owner, nginxDir);
    },
  };
}

/** Gives the proxy up, where it is ours. Never throws: the next claim of this folder finds its own name. */
export async function giveUp(host: Host, nginxDir: string, owner: string): Promise<void> {
  await ask(host, { op: 'drop', dir: nginxDir, mine: { owner, epoch: 0, who: '', since: '', release: '' } });
}

/** Who owns the proxy, and what can be done about it. */
export function heldBy(owner: Owner, nginxDir: string): string {
  return (
    `${owner.who} releases ${owner.release} through ${nginxDir} from another control machine or state folder (${owner.owner}, since ${owner.since}). ` +
    'Nothing was started. When nobody works there any more: flow lock take-over'
  );
}

function fenced(owner: Owner | null, nginxDir: string): StateError {
  const by =
    owner === null
      ? 'nobody is on record there'
      : `${owner.who} on ${owner.owner} has taken it over, at ${owner.since}`;
  return new StateError(
    'FENCED',
    `The proxy ${nginxDir} is no longer this flow's: ${by}. Nothing further was started. See: flow lock show`,
  );
}

type Call =
  | { op: 'read'; dir: string }
  | { op: 'claim'; dir: string; mine: Owner; force: boolean }
  | { op: 'drop'; dir: string; mine: Owner };

async function ask(host: Host, call: Call): Promise<{ word: string; owner: Owner | null } | { problem: string }> {
  const mine = 'mine' in call ? call.mine : { owner: '', epoch: 0, who: '', since: '', release: '' };
  const line = (text: string) => quote(text.replaceAll(/[\u0000-\u001f\u007f]/g, ' '));
  const header =
    `op=${call.op} dir=${quote(call.dir)} force=${'force' in call && call.force ? 'yes' : 'no'} mine=${line(mine.owner)} ` +
    `my_epoch=${mine.epoch} who=${line(mine.who)} since=${line(mine.since)} release=${line(mine.release)}\n`;
  try {
    const result = await host.run(['sh', '-s'], {
      input: `${header}${SCRIPT}`,
      timeoutMs: CALL_TIMEOUT_MS,
      changesWorld: call.op !== 'read',
      env: { LC_ALL: 'C' },
    });
    const [word = '', ...rest] = result.stdout.split('\n');
    if (result.status !== 0 || word === '') {
      return {
        problem: result.unreachable ?? result.notStarted ?? (result.stderr.trim() || `status ${String(result.status)}`),
      };
    }
    const [owner = '', epoch = '', who = '', since = '', release = ''] = rest;
    return { word, owner: owner === '' ? null : { owner, epoch: Number(epoch), who, since, release } };
  } catch (error) {
    return { problem: messageOf(error) };
  }
}
